"""Which hosts there are and where they stand, from regions.json alone, and which instances of the cloud stand there.

A tag is no proof: a role that may tag could name another instance. An address within the network of a region is held by one instance.
"""

import ipaddress
import json
import pathlib

REGIONS = json.loads((pathlib.Path(__file__).resolve().parent.parent / "regions.json").read_text())
# Zone by zone, as terraform/modules/region/hosts.tf places them.
ZONES, FIRST_BYTE, MONITOR_BYTE = 3, 11, 31


class Unknown(Exception):
    """The network of a region is not there, or not the only one."""


def expected(letter):
    """The address of each host of a region, by the host's name."""
    network, numbers = ipaddress.ip_network(REGIONS[letter]["cidr"]), range(REGIONS[letter]["databases"])
    places = {f"{letter}-db{number + 1}": (number % ZONES + 1, FIRST_BYTE + ZONES * (number // ZONES)) for number in numbers}
    places[f"{letter}-monitor"] = (1, MONITOR_BYTE)
    return {name: str(network[256 * zone + byte]) for name, (zone, byte) in places.items()}


def described(ec2, **filters):
    """Instances, each with the account that it belongs to."""
    given = [{"Name": name.replace("__", ":").replace("_", "-"), "Values": values} for name, values in filters.items()]
    pages = ec2.get_paginator("describe_instances").paginate(Filters=given)
    return [{**one, "OwnerId": group["OwnerId"]} for page in pages for group in page["Reservations"] for one in group["Instances"]]


def network(ec2, letter):
    """The network of a region: the one of ours with its addresses."""
    given = [{"Name": "tag:Project", "Values": ["dob-api"]}, {"Name": "cidr", "Values": [REGIONS[letter]["cidr"]]}]
    found = ec2.describe_vpcs(Filters=given)["Vpcs"]
    if len(found) != 1:
        raise Unknown(f"there should be one network {REGIONS[letter]['cidr']} of dob-api in {ec2.meta.region_name}, and there are {len(found)}")
    return found[0]


def standing(ec2, letter):
    """Every instance that stands at the address of a host, as pairs of the host's name and the instance."""
    names, here = {address: name for name, address in expected(letter).items()}, network(ec2, letter)
    found = described(ec2, vpc_id=[here["VpcId"]], private_ip_address=list(names))
    return [(names[one["PrivateIpAddress"]], one) for one in found if one["OwnerId"] == here["OwnerId"]]
