"""Hosts as a cloud delivers them, and what it does with them unasked: names that a boot takes away, and upgrades that nobody ordered."""

import json
import re
import subprocess

import pytest

from lab.hosts import nspawn, plan
from lab.trials import versions
from test_region import survives
from test_upkeep import refused, write


def versions_of(cluster, host, *packages):
    query = "dpkg-query --show --showformat '${Package} ${Version}\\n' " + " ".join(packages)
    return dict(line.split() for line in cluster.ssh(host, query).splitlines())


def site(cluster, *arguments, name="site.yml"):
    """What a run said that came to its end."""
    done = cluster.playbook(name, *arguments, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    return re.sub(r"\s+", " ", done.stdout)


def settings(parameters):
    return "-e", json.dumps({"postgresql_parameters": parameters})


def parameter(cluster, host, name):
    psql = cluster.ssh_command(host, "sudo", "-u", "postgres", "psql", "-X", "-At")
    return cluster.operator(*psql, input=f"show {name}", check=True, capture_output=True).stdout.strip()


def test_a_host_keeps_its_names_when_it_boots_and_playbooks_run_afterwards(whole):
    leader = whole.leader("a")
    host = next(place.name for place in plan.databases("a") if place.name != leader)
    whole.ssh(host, "rm /etc/hosts")
    whole.machines[host].shut_down()
    whole.machines[host].boot()
    # It did what a cloud's image does.
    assert "manage_etc_hosts" in whole.ssh(host, "cat /etc/hosts")
    assert whole.ssh(host, "hostname").strip() == host
    for name, machine in whole.machines.items():
        if machine.place.kind in ("database", "service", "monitoring"):
            assert whole.ssh(host, "getent", "ahostsv4", name).split()[0] in (machine.address, "127.0.1.1" if name == host else None)
    whole.wait_until_whole("a")
    site(whole, "-e", f"target_region=a patroni_candidate={host}", name="switchover.yml")
    assert whole.leader("a") == host


def test_unattended_upgrades_leave_the_database_alone(whole):
    host = whole.places("database", "b")[-1].name
    held = ("etcd-server", "patroni")
    newer = versions.newer(whole, "curl", whole.archive.publish)
    for package in held:
        versions.newer(whole, package, whole.archive.publish)
    before = versions_of(whole, host, *held), whole.ssh(host, "systemctl show --property=ExecMainPID etcd patroni")
    upgrade = whole.ssh_command(host, "apt-get --quiet update && unattended-upgrade --verbose 2>&1")
    said = whole.operator(*upgrade, capture_output=True, timeout=300).stdout
    assert versions_of(whole, host, "curl") == {"curl": newer}, said
    assert (versions_of(whole, host, *held), whole.ssh(host, "systemctl show --property=ExecMainPID etcd patroni")) == before, said


@pytest.mark.long
def test_site_makes_a_member_of_a_host_that_nobody_has_touched(whole):
    host = whole.places("database", "b")[1].name
    whole.replace(whole.machines[host], "untouched")
    assert whole.ssh(host, "find /var/lib/apt/lists -name '*_Packages*'").strip() == ""
    # It fails where it knows no such name, and says so.
    query = "dpkg-query --show --showformat '${db:Status-Status} ' 'postgresql*' 'etcd*' patroni 2>/dev/null || true"
    assert "installed" not in whole.ssh(host, query).split()
    site(whole)
    whole.wait_until_whole("b")
    assert set(versions_of(whole, host, *versions.PACKAGES)) == set(versions.PACKAGES)


@pytest.mark.long
def test_settings_change_while_a_host_is_down_and_reach_it_later(whole):
    gone = next(place.name for place in plan.databases("b") if place.name != leader_of(whole, "b"))
    whole.machines[gone].kill()
    nspawn.wait_until(lambda: gone not in whole.members("b"), f"{gone} is not listed any more", 60)
    said = site(whole, "-e", "patroni_slot_wal_limit=3GB")
    assert f"cannot be reached, and is left out: {gone}" in said and f"left out: {gone}. Run site again" in said
    assert {parameter(whole, leader_of(whole, region), "max_slot_wal_keep_size") for region in "ab"} == {"3GB"}
    whole.machines[gone].boot()
    whole.wait_until_whole("b")
    assert parameter(whole, gone, "max_slot_wal_keep_size") == "3GB"
    assert "is left out:" not in site(whole)
    assert parameter(whole, gone, "max_slot_wal_keep_size") == "4GB"


def test_a_region_without_a_majority_is_not_changed(whole):
    first, second, third = (place.name for place in plan.databases("b"))
    for host in (first, third):
        whole.machines[host].kill()
    assert f"of region b only {second} can be reached, and a change needs a majority" in left_alone(whole)


def left_alone(cluster):
    """What site says that refuses to leave hosts out."""
    done = cluster.playbook("site.yml", "-e", "patroni_slot_wal_limit=2GB", check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode != 0, done.stdout
    # A host that cannot be reached has no figures.
    assert not re.search(r"changed=[1-9]", done.stdout), done.stdout
    return re.sub(r"\s+", " ", done.stdout)


def leader_of(cluster, region):
    members = nspawn.wait_until(lambda: cluster.members(region), f"members of region {region}")
    return next(name for name, member in members.items() if member["role"] in ("leader", "standby_leader"))


@pytest.mark.long
def test_a_host_with_a_clock_that_is_off_is_refused(whole):
    write(whole, "a-monitor", "/usr/local/bin/date", "#!/bin/sh\necho $(($(/usr/bin/date +%s) + 7200))\n")
    whole.ssh("a-monitor", "chmod 755 /usr/local/bin/date")
    try:
        assert re.search(r"the clock of a-monitor is 7\d\d\d s off from the clock here", refused(whole, "site.yml"))
    finally:
        whole.ssh("a-monitor", "rm /usr/local/bin/date")


@pytest.mark.long
def test_a_parameter_that_postgresql_does_not_know_is_refused_before_anything_changes(whole):
    said = refused(whole, "site.yml", *settings({"work_men": "8MB"}))
    assert 'work_men: unrecognized configuration parameter "work_men"' in said


@pytest.mark.long
def test_a_check_shows_the_change_of_settings_without_passwords_and_what_is_not_named_any_more_goes(whole):
    wanted = settings({"max_worker_processes": 12, "work_mem": "6MB"})
    shown = site(whole, "--check", "--diff", *wanted)
    assert "+postgresql.parameters.work_mem: 6MB" in shown and "-postgresql.parameters.work_mem: 4MB" in shown
    assert not [secret for secret in whole.credentials.passwords() if secret in shown]
    hosts = [place.name for region in whole.regions() for place in plan.databases(region)]
    assert {parameter(whole, host, "work_mem") for host in hosts} == {"4MB"}
    assert "a setting waits for a restart of" in site(whole, *wanted)
    assert {parameter(whole, host, "work_mem") for host in hosts} == {"6MB"}
    assert "a setting waits for a restart of" not in site(whole)
    assert {parameter(whole, host, "work_mem") for host in hosts} == {"4MB"}


@pytest.mark.long
def test_hosts_that_wait_for_a_restart_get_it_in_rolling_order_without_a_failed_request(whole, client):
    hosts = [place.name for region in whole.regions() for place in plan.databases(region)]
    home = next(region for region in whole.regions() if whole.leader(region))
    # Fewer than the primary had reach a standby only after the primary.
    for count, load in (("120", True), ("100", False)):
        for region in whole.regions():
            edit = f"patronictl --config-file /etc/patroni/config.yml edit-config --force --quiet --pg max_connections={count}"
            whole.ssh(leader_of(whole, region), edit)
        for place in map(plan.PLACES.get, hosts):
            nspawn.wait_until(lambda place=place: pending(whole, place), f"{place.name} waits for a restart")
        if load:
            with client(home) as ledger:
                site(whole, name="restart.yml")
                ledger.goes_on()
            survives(ledger, home)
        else:
            site(whole, name="restart.yml")
        assert {parameter(whole, host, "max_connections") for host in hosts} == {count}


def pending(cluster, place):
    return cluster.get(f"https://{place.address}:8008/patroni").get("pending_restart")
