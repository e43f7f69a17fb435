"""The hosts and their places."""

import dataclasses
import pathlib
import re

from tools import regions

OPERATOR = "10.9.0.10"
VARIABLES = pathlib.Path(__file__).resolve().parents[2] / "ansible/group_vars/all/main.yml"
# The major version of PostgreSQL that the playbooks install.
POSTGRESQL = int(re.search(r"^postgresql_version: .*default\((\d+)\)", VARIABLES.read_text(), re.M)[1])


@dataclasses.dataclass(frozen=True)
class Place:
    """A host's name, kind, region, zone and address. Zone 0 is the region's public side."""

    name: str
    kind: str
    region: str
    zone: int
    address: str


def database(name, network, number):
    """A database host: one in each of three zones, then a second in each, as Terraform numbers them."""
    zone, row = (number - 1) % 3 + 1, (number - 1) // 3
    return Place(f"{name}-db{number}", "database", name, zone, f"{network}.{zone}.{11 + 3 * row}")


def region(name, network):
    """A region: a database host in each of three zones, a service host in two, the balancer, the object store and the monitoring host."""
    databases = [database(name, network, number) for number in range(1, regions.REGIONS[name]["databases"] + 1)]
    services = [Place(f"{name}-app{zone}", "service", name, zone, f"{network}.{zone}.21") for zone in (1, 2)]
    public = [Place(f"{name}-lb", "balancer", name, 0, f"{network}.0.10"), Place(f"{name}-s3", "storage", name, 0, f"{network}.0.20")]
    return [*databases, *services, Place(f"{name}-monitor", "monitoring", name, 1, f"{network}.1.31"), *public]


def beside(place):
    return dataclasses.replace(place, name=f"{place.name}b", address=f"{place.address.rpartition('.')[0]}.22")


def spare(name, network):
    """A database host that can be added to a region."""
    return database(name, network, regions.REGIONS[name]["databases"] + 1)


# The addresses of the cloud's regions, by their letters.
NETWORKS = {name: place["cidr"].removesuffix(".0.0/16") for name, place in regions.REGIONS.items()}
# The region that is primary when the cluster is created; later the databases know it.
FIRST = "a"
PLACES = {place.name: place for name, network in NETWORKS.items() for place in region(name, network)}
SPARES = {place.name: place for place in (spare(name, network) for name, network in NETWORKS.items())}
# Each service host's zone has two addresses; a host that replaces the one at the first gets the second.
PAIRS = [(place, beside(place)) for place in PLACES.values() if place.kind == "service"]
SUCCESSORS = {one.name: other for pair in PAIRS for one, other in (pair, pair[::-1])}
SUBNETS = [*sorted({place.address.rpartition(".")[0] for place in PLACES.values()}), OPERATOR.rpartition(".")[0]]
# The parts that a partition can cut off: a host, a zone, a region.
PARTS = {place.name: f"{place.address}/32" for place in [*PLACES.values(), *SPARES.values(), *SUCCESSORS.values()]}
PARTS |= {f"{place.region}{place.zone}": f"{place.address.rpartition('.')[0]}.0/24" for place in PLACES.values() if place.zone}
PARTS |= {name: f"{network}.0.0/16" for name, network in NETWORKS.items()}


def databases(region):
    return [place for place in PLACES.values() if place.kind == "database" and place.region == region]


def endpoint(region):
    """The name of a region's object store, as in its certificate."""
    return f"s3.{region}.internal"
