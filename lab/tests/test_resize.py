"""Another size for the database hosts of a region: one host at a time, the primary last, and no request fails."""

import re
import subprocess

import pytest

from lab.hosts import plan
from lab.hosts.machine import LIMITS
from test_upkeep import refused

SIZE = str(1 << 30)
# Hosts that keep something: others are replaced, not resized.
KEEPERS = ("database", "monitoring")


@pytest.fixture
def region(whole):
    """The region that takes writes."""
    return next(name for name in whole.regions() if whole.leader(name))


@pytest.fixture
def hosts(whole, region):
    """The hosts that keep something, of that region: another size is wanted for each, as after an apply of Terraform."""
    machines = {name: machine for name, machine in whole.machines.items() if machine.place.region == region and machine.place.kind in KEEPERS}
    assert len(machines) == len(plan.databases(region)) + 1
    for machine in machines.values():
        machine.want(SIZE)
    yield machines
    for machine in machines.values():
        machine.want(machine.size())


def memory(machine):
    """What the kernel lets the processes of a host have."""
    return {(group / name).read_text().strip() for group in machine.groups for name in LIMITS if (group / name).exists()}


def started(cluster, name):
    return cluster.ssh(name, "stat", "--format=%Z", "/proc/1")


@pytest.mark.long
def test_each_host_is_stopped_alone_the_primary_last_and_no_request_fails(whole, region, hosts, client):
    leader = whole.leader(region)
    before = {name: started(whole, name) for name in hosts}
    resize = ("resize.yml", "-e", f"target_region={region}")
    with client(region) as ledger:
        said = whole.playbook(*resize, stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout
        ledger.goes_on()
    print(ledger.figures())
    assert ledger.failed("GET") == ledger.failed("PUT") == ledger.lost(region) == []
    tasks = re.findall(r"TASK \[.*Stop the host, change its type, and start it\] \**\n((?:.+\n)+)", said)
    changed = re.findall(r"changed: \[(\S+)[^]]*\]", "".join(tasks))
    assert sorted(changed) == sorted(hosts) and changed[-2:] == [leader, f"{region}-monitor"], said
    assert whole.leader(region) != leader
    assert {name: memory(machine) for name, machine in hosts.items()} == {name: {SIZE} for name in hosts}
    assert {name for name in hosts if started(whole, name) == before[name]} == set()

    # With nothing to change it stops nobody.
    before = {name: started(whole, name) for name in hosts}
    whole.playbook(*resize, stdout=subprocess.DEVNULL)
    assert {name: started(whole, name) for name in hosts} == before


@pytest.mark.long
def test_no_host_of_a_region_that_is_not_whole_is_stopped(whole, region, hosts):
    sick = next(name for name in hosts if name not in (whole.leader(region), f"{region}-monitor"))
    before = {name: started(whole, name) for name in hosts}
    whole.ssh(sick, "systemctl", "stop", "patroni")
    try:
        assert f"Patroni does not answer on {sick}" in refused(whole, "resize.yml", "-e", f"target_region={region}")
    finally:
        whole.ssh(sick, "systemctl", "start", "patroni")
    assert {name: started(whole, name) for name in hosts} == before
