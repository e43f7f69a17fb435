"""Finds the database and monitoring hosts of both regions by their addresses. A region that is lost costs seconds, and hides only its own."""

import concurrent.futures
import pathlib
import sys

import boto3
import botocore.config
import botocore.exceptions
from ansible.errors import AnsibleParserError

from ansible.plugins.inventory import BaseInventoryPlugin

DOCUMENTATION = """
name: dob_api_aws
short_description: hosts of dob-api in AWS
description:
  - Finds the instances that stand at the addresses of the hosts of regions.json, in the network of each region and of its account.
  - A host is named as in the runbooks, a-db1. Its groups are aws, its role and region_<letter>. Its tags decide none of that, because
    an instance that somebody tags as a host would be given the passwords of one; tags that say something else are a warning.
options:
  plugin:
    description: The name of this plugin.
    required: true
    choices: [dob_api_aws]
"""
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
import addresses  # noqa: E402 what Ansible loads has no folder of its own

# An attempt and two retries, of five seconds each.
BOUNDED = botocore.config.Config(connect_timeout=5, read_timeout=5, retries={"total_max_attempts": 3, "mode": "standard"})
RUNNING = {"pending", "running", "stopping", "stopped"}


def look(letter, region):
    """The hosts of a region as its interface describes them, and what is tagged as one and is none."""
    ec2 = boto3.client("ec2", region_name=region, config=BOUNDED)
    hosts = [(name, one) for name, one in addresses.standing(ec2, letter) if one["State"]["Name"] in RUNNING]
    tagged = addresses.described(ec2, tag__Project=["dob-api"], tag__Role=["database", "monitoring"], instance_state_name=sorted(RUNNING))
    known = {one["InstanceId"] for _, one in hosts}
    return hosts, [one for one in tagged if one["InstanceId"] not in known]


class InventoryModule(BaseInventoryPlugin):
    NAME = "dob_api_aws"

    def parse(self, inventory, loader, path, cache=True):
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        names = {letter: one["region"] for letter, one in addresses.REGIONS.items()}
        with concurrent.futures.ThreadPoolExecutor(len(names)) as workers:
            found = {letter: workers.submit(look, letter, region) for letter, region in names.items()}
        lost = {letter: future.exception() for letter, future in found.items() if future.exception()}
        for letter, error in lost.items():
            if not isinstance(error, (addresses.Unknown, botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError)):
                raise error
            self.display.warning(f"the hosts of {names[letter]} are unknown: {error}")
        if len(lost) == len(names):
            raise AnsibleParserError("no region tells its hosts: look at your credentials for the account")
        for letter in found.keys() - lost.keys():
            hosts, foreign = found[letter].result()
            for name, instance in hosts:
                self.add(name, instance, letter, names[letter])
            for one in foreign:
                place = one.get("PrivateIpAddress", "no address")
                self.display.warning(
                    f"{one['InstanceId']} in {names[letter]} is tagged as a host of dob-api and stands at {place}, where regions.json has none: "
                    "it is left out; look who tagged it"
                )

    def add(self, name, instance, letter, region):
        tags = {tag["Key"]: tag["Value"] for tag in instance.get("Tags", [])}
        role = "monitoring" if name.endswith("-monitor") else "database"
        wanted = {"Project": "dob-api", "Name": f"dob-api-{name}", "Role": role, "Region": letter}
        if wrong := {key: tags.get(key) for key, value in wanted.items() if tags.get(key) != value}:
            self.display.warning(f"{instance['InstanceId']} is {name} by its address, and its tags say otherwise: {wrong}; look who changed them")
        host = self.inventory.add_host(name)
        for group in ("aws", role, f"region_{letter}"):
            self.inventory.add_child(self.inventory.add_group(group), host)
        facts = {
            "ec2_instance_id": instance["InstanceId"],
            "ec2_owner_id": instance["OwnerId"],
            "ec2_placement": {"availability_zone": instance["Placement"]["AvailabilityZone"], "region": region},
            "ec2_private_ip_address": instance["PrivateIpAddress"],
            "ec2_region_letter": letter,
        }
        for key, value in facts.items():
            self.inventory.set_variable(host, key, value)
