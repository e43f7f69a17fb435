"""Finds the database and monitoring hosts of both regions by their tags. A region that is lost costs seconds, and hides only its own."""

import concurrent.futures
import json
import pathlib

import boto3
import botocore.config
import botocore.exceptions
from ansible.errors import AnsibleParserError

from ansible.plugins.inventory import BaseInventoryPlugin

DOCUMENTATION = """
name: dob_api_aws
short_description: hosts of dob-api in AWS
description:
  - Finds the instances tagged Project=dob-api with the tag Role database or monitoring, in each region of regions.json.
  - A host is named as in the runbooks, a-db1, which is its tag Name without the project. Its groups are aws, its role and region_<letter>.
options:
  plugin:
    description: The name of this plugin.
    required: true
    choices: [dob_api_aws]
"""
REGIONS = json.loads((pathlib.Path(__file__).resolve().parents[3] / "regions.json").read_text())
# An attempt and two retries, of five seconds each.
BOUNDED = botocore.config.Config(connect_timeout=5, read_timeout=5, retries={"total_max_attempts": 3, "mode": "standard"})
FILTERS = {"tag:Project": ["dob-api"], "tag:Role": ["database", "monitoring"], "instance-state-name": ["pending", "running", "stopping", "stopped"]}


def instances(region):
    """The hosts of a region, as its interface describes them."""
    ec2 = boto3.client("ec2", region_name=region, config=BOUNDED)
    filters = [{"Name": name, "Values": values} for name, values in FILTERS.items()]
    pages = ec2.get_paginator("describe_instances").paginate(Filters=filters)
    return [{**one, "OwnerId": group["OwnerId"]} for page in pages for group in page["Reservations"] for one in group["Instances"]]


class InventoryModule(BaseInventoryPlugin):
    NAME = "dob_api_aws"

    def parse(self, inventory, loader, path, cache=True):
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        names = [region["region"] for region in REGIONS.values()]
        with concurrent.futures.ThreadPoolExecutor(len(names)) as workers:
            found = {name: workers.submit(instances, name) for name in names}
        lost = {name: future.exception() for name, future in found.items() if future.exception()}
        for name, error in lost.items():
            if not isinstance(error, (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError)):
                raise error
            self.display.warning(f"the hosts of {name} are unknown: {error}")
        if len(lost) == len(names):
            raise AnsibleParserError("no region tells its hosts: look at your credentials for the account")
        for name in found.keys() - lost.keys():
            for instance in found[name].result():
                self.add(instance, name)

    def add(self, instance, region):
        tags = {tag["Key"]: tag["Value"] for tag in instance["Tags"]}
        host = self.inventory.add_host(tags["Name"].removeprefix("dob-api-"))
        for group in ("aws", tags["Role"], f"region_{tags['Region']}"):
            self.inventory.add_child(self.inventory.add_group(group), host)
        facts = {
            "ec2_instance_id": instance["InstanceId"],
            "ec2_owner_id": instance["OwnerId"],
            "ec2_placement": {"availability_zone": instance["Placement"]["AvailabilityZone"], "region": region},
            "ec2_private_ip_address": instance["PrivateIpAddress"],
            "ec2_tags": tags,
        }
        for name, value in facts.items():
            self.inventory.set_variable(host, name, value)
