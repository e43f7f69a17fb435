"""A data volume that is enlarged while its database runs."""

import pytest

from lab.hosts import nspawn, plan
from lab.hosts.machine import DATA
from test_delivered import site
from test_upkeep import asked


def size_mb(cluster, host):
    return int(cluster.ssh(host, f"df --block-size=1M --output=size /{DATA}").split()[-1])


@pytest.mark.long
def test_a_file_system_grows_while_its_database_runs(whole):
    host = next(place.name for place in plan.databases("b") if whole.members("b")[place.name]["role"] == "replica")
    machine = whole.machines[host]
    # ext4 grows only for a program that may pass quotas, which a machine of tests may not have.
    machine.shut_down()
    nspawn.wait_until(lambda: not nspawn.run("losetup", "--associated", machine.volume).stdout, f"{host} has let go of its volume")
    nspawn.run("mkfs.xfs", "-q", "-f", machine.volume)
    machine.boot()
    site(whole)
    whole.wait_until_whole("b")
    before, started = size_mb(whole, host), asked(whole, host, "select pg_postmaster_start_time()")

    machine.enlarge("18G")
    assert size_mb(whole, host) == before
    assert f"/{DATA} grows by 2048 MB" in site(whole, "--check", "-v", "--tags=etcd")
    assert size_mb(whole, host) == before
    site(whole)
    assert size_mb(whole, host) == before + 2048
    assert asked(whole, host, "select pg_postmaster_start_time()") == started
    assert "changed=0" in site(whole, "--limit=region_b") and whole.is_whole("b")
