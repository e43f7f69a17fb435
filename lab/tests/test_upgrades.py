"""All packages but the database's: newer ones come in one host at a time, with a reboot where one is needed, and no request fails."""

import re
import subprocess

import pytest

from lab.hosts import machine, nspawn, plan
from lab.trials import versions
from lab.trials.playing import Playing
from test_delivered import site, versions_of
from test_region import recap, survives
from test_upkeep import refused, timeline

PLAYBOOK = "upgrade-packages.yml"
# Every daemon that speaks TLS uses the second. The third is held.
HARMLESS, LIBRARY, HELD = "curl", "libssl3t64", "etcd-server"
FIGURES = "/var/lib/prometheus/node-exporter/dob-upgrades.prom"


def hosts(cluster):
    """The hosts that begin as a cloud's image."""
    return [name for name, host in cluster.machines.items() if host.place.kind in machine.FROM_CLOUD]


def boot(cluster, host):
    return cluster.ssh(host, "cat /proc/sys/kernel/random/boot_id").strip()


def boots(cluster):
    return {host: boot(cluster, host) for host in hosts(cluster)}


def figures(cluster, host):
    cluster.ssh(host, "systemctl start dob-upgrades")
    return dict(line.rsplit(" ", 1) for line in cluster.ssh(host, f"grep -v '^#' {FIGURES}").splitlines())


def test_a_report_lists_what_is_outstanding_and_changes_nothing(whole):
    newer = {package: versions.newer(whole, package, whole.archive.publish) for package in (HARMLESS, HELD)}
    before = versions_of(whole, "b-db1", *newer)
    said = site(whole, "--check", name=PLAYBOOK)
    for host in hosts(whole):
        assert re.search(rf"{host}: \d+ packages, 0 for security: [^;]*{HARMLESS} {re.escape(newer[HARMLESS])}", said), said
    assert re.search(rf"b-db1: [^;]*; held: [^;]*{HELD}", said) and "held: none" in said
    assert set(recap(said.replace(" : ok", "\n : ok")).values()) <= {0}
    assert versions_of(whole, "b-db1", *newer) == before


@pytest.mark.long
def test_an_upgrade_of_all_packages_costs_no_request_though_it_is_killed_half_way(whole, client):
    region = next(name for name in whole.regions() if whole.leader(name))
    newer = {package: versions.newer(whole, package, whole.archive.publish) for package in (HARMLESS, LIBRARY)}
    versions.newer(whole, HELD, whole.archive.publish)
    first, held, epoch = boots(whole), versions_of(whole, "b-db1", HELD), timeline(whole, region)
    with client(region) as ledger:
        playing = Playing(whole, PLAYBOOK).start()
        reached = "Wait until the host answers"
        nspawn.wait_until(lambda: playing.is_over() or any(reached in task for _, task in list(playing.tasks)), "a host reboots", 600)
        playing.kill()
        # Where the run was killed, a host is on its way down: it is waited for as an operator would.
        for name in whole.regions():
            whole.wait_until_whole(name)
        assert [host for host in hosts(whole) if boot(whole, host) != first[host]] in ([], [host_of(playing)]), playing.output()
        site(whole, name=PLAYBOOK)
        ledger.goes_on()
    survives(ledger, region)
    assert timeline(whole, region) == epoch + 1
    for host, before in first.items():
        assert versions_of(whole, host, *newer) == newer
        assert boot(whole, host) != before, host
    for place in (place for name in whole.regions() for place in plan.databases(name)):
        assert versions_of(whole, place.name, HELD) == held

    # With nothing outstanding it touches no host.
    second = boots(whole)
    assert not re.search(r"changed=[1-9]", site(whole, name=PLAYBOOK))
    assert boots(whole) == second
    assert "changed=0" in site(whole) and whole.leader(region)


def host_of(playing):
    """The host that a run rebooted."""
    return re.findall(r"TASK \[upgrade : Reboot the host\] \*+\n(?:included.*\n)?(?:\w+: \[|.* for )(\S+?)[\] =]", playing.output())[-1]


@pytest.mark.long
def test_a_host_that_asks_for_a_reboot_gets_one_alone_and_its_alert_ends(whole):
    host = next(place.name for place in plan.databases("b") if whole.members("b")[place.name]["role"] == "replica")
    before = boots(whole)
    whole.ssh(host, "touch /run/reboot-required; echo linux-image-cloud-amd64 >/run/reboot-required.pkgs")
    assert figures(whole, host)["dob_reboot_needed"] == "1"
    assert "reboot: asked for by linux-image-cloud-amd64" in site(whole, name=PLAYBOOK)
    assert [name for name, at in boots(whole).items() if at != before[name]] == [host]
    shown = figures(whole, host)
    assert shown["dob_reboot_needed"] == "0" and shown['dob_upgrades_outstanding{kind="all"}'] == "0"


@pytest.mark.long
def test_a_host_that_cannot_reach_its_archive_or_a_region_that_is_not_whole_is_refused(whole):
    lists = int(figures(whole, "b-db2")["dob_package_lists_timestamp_seconds"])
    archive, away = whole.archive.folder, whole.archive.folder.with_name("away")
    archive.rename(away)
    try:
        said = refused(whole, PLAYBOOK)
        assert "cannot update its package lists: " in said and "'nat = true' does that" in said
        assert int(figures(whole, "b-db2")["dob_package_lists_timestamp_seconds"]) == lists
    finally:
        away.rename(archive)
    whole.ssh("b-db2", "systemctl", "stop", "patroni")
    try:
        assert "Patroni does not answer on b-db2: start it there first" in refused(whole, PLAYBOOK)
    finally:
        whole.ssh("b-db2", "systemctl", "start", "patroni")


@pytest.mark.long
def test_each_database_host_is_rebooted_under_load_and_comes_back_without_a_hand(whole, client):
    region = next(name for name in whole.regions() if whole.leader(name))
    places = [place for name in whole.regions() for place in plan.databases(name)]
    with client(region) as ledger:
        for place in places:
            whole.machines[place.name].shut_down()
            whole.machines[place.name].boot()
            whole.wait_until_whole(place.region)
        ledger.goes_on()
    survives(ledger, region)
    assert set(recap(subprocess_of(whole)).values()) == {0}


@pytest.mark.long
def test_all_database_hosts_are_rebooted_at_once_and_come_back_without_a_hand(whole):
    region = next(name for name in whole.regions() if whole.leader(name))
    machines = [whole.machines[place.name] for name in whole.regions() for place in plan.databases(name)]
    for one in machines:
        whole.ssh(one.name, "systemctl reboot --no-block")
    nspawn.wait_until(lambda: not whole.leader(region), "the primary has gone")
    for name in whole.regions():
        whole.wait_until_whole(name)
        whole.wait_until_served(name)
    assert whole.leader(region)
    assert set(recap(subprocess_of(whole)).values()) == {0}


def subprocess_of(cluster):
    """What a run of site says when it has come to its end."""
    return cluster.playbook("site.yml", stdout=subprocess.PIPE).stdout
