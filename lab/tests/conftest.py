"""What the tests share: one cluster, made as its users make it."""

import os
import pathlib
import sys

import pytest

from lab.clients.ledger import Ledger
from lab.hosts.cluster import Cluster, Run


def pytest_configure(config):
    config.addinivalue_line("markers", "long: not in the short form, which runs where nothing is named")


def pytest_collection_modifyitems(items):
    # These leave another version behind: of the service, and of PostgreSQL.
    last = ["test_roll_out.py", "test_version.py"]
    items.sort(key=lambda item: last.index(item.path.name) if item.path.name in last else -1)


@pytest.fixture(scope="session")
def cluster():
    if kept := os.environ.get("CLUSTER_RUN"):
        cluster = Cluster(Run(pathlib.Path(kept)), pathlib.Path(sys.prefix))
        yield cluster
        cluster.mend()
        return
    with Run() as run:
        cluster = Cluster(run, pathlib.Path(sys.prefix))
        cluster.make(print)
        cluster.playbook("site.yml")
        yield cluster


@pytest.fixture
def client(cluster):
    """Makes a client before a region's balancer, at the operator's place or at a host's."""
    return lambda region, place=None: Ledger(cluster, f"{region}-lb", place)


@pytest.fixture
def whole(cluster):
    """The cluster, with every member in its place, its balancers serving and region a as the primary region."""
    # Each further test would wait as long for what did not come.
    if broken := getattr(cluster, "broken", None):
        pytest.fail(f"an earlier test left the cluster broken: {broken}", pytrace=False)
    try:
        cluster.mend()
        if not cluster.leader("a"):
            cluster.playbook("failback.yml", "-e", "target_region=a")
    except Exception as error:
        cluster.broken = error
        raise
    return cluster
