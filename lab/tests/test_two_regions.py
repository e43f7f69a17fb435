"""What two regions promise: one replaces the other on command, and never do both take writes."""

import json
import re
import subprocess
import time

import pytest

from lab.hosts import nspawn, plan
from lab.trials import regions


def play(cluster, name, *arguments, **options):
    return cluster.playbook(name, *arguments, check=False, stdout=subprocess.PIPE, **options)


@pytest.mark.parametrize(
    ("playbook", "settings", "reason"),
    [
        ("failover-region.yml", ["target_region=b", "region_fence_command=false"], "nothing proves that a-db1 is off"),
        ("failover-region.yml", [], "name the region with --extra-vars target_region=NAME: one of a, b"),
        ("rejoin.yml", ["target_region=a"], "region b takes no writes: nothing can follow it"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_changes_nothing(whole, playbook, settings, reason):
    before = whole.leader("a")
    refused = play(whole, playbook, *(f"--extra-vars={setting}" for setting in settings))
    assert refused.returncode != 0
    assert reason in re.sub(r"\s+", " ", refused.stdout)
    assert whole.leader("a") == before and not whole.leader("b")


@pytest.mark.parametrize(
    ("playbook", "region", "said"),
    [
        ("failover-region.yml", "a", "region a takes writes already: nothing was fenced or promoted"),
        ("rejoin.yml", "b", "region b is a standby of this history already: there is nothing to do"),
        ("failback.yml", "a", "region a takes writes already: there is nothing to move"),
    ],
)
def test_where_nothing_is_wrong_a_playbook_says_so_and_changes_nothing(whole, playbook, region, said):
    before = whole.leader("a")
    done = play(whole, playbook, "-e", f"target_region={region}")
    assert done.returncode == 0, done.stdout
    assert said in re.sub(r"\s+", " ", done.stdout)
    assert whole.leader("a") == before and not whole.leader("b")
    # Nobody was fenced.
    assert all(whole.is_whole(name) for name in whole.regions())
    assert set(map(int, re.findall(r"unreachable=(\d+)", done.stdout))) == {0}


def test_a_region_is_not_replaced_when_the_inventory_has_no_host_to_fence(whole, tmp_path):
    known = json.loads(whole.inventory.joinpath("hosts.yml").read_text())
    children = known["all"]["children"]
    del children["region_a"]
    children["database"]["hosts"] = {name: host for name, host in children["database"]["hosts"].items() if host["region"] == "b"}
    (tmp_path / "hosts.yml").write_text(json.dumps(known))
    refused = play(whole, "failover-region.yml", "-e", "target_region=b", inventory=tmp_path)
    assert refused.returncode != 0
    assert "the inventory has no database host outside region b" in refused.stdout
    assert not whole.leader("b")


@pytest.mark.long
def test_a_dead_region_is_replaced_waits_when_it_returns_and_leads_again(whole, client):
    dead = [whole.machines[place.name] for place in plan.databases("a")]
    with client("b") as ledger:
        for machine in dead:
            machine.kill()
        commanded = time.monotonic()
        promoted = play(whole, "failover-region.yml", "-vvv", "-e", "target_region=b")
        ledger.goes_on()
    assert promoted.returncode == 0, promoted.stdout
    assert not [secret for secret in whole.credentials.passwords() if secret in promoted.stdout]
    unsent = len(ledger.lost("b"))
    print(f"{ledger.figures()}; first write {ledger.gap(commanded):.1f} s after the command; {unsent} acknowledged writes not carried")
    assert ledger.failed("PUT") == []

    with client("b") as ledger:
        for machine in dead:
            machine.boot()
        ledger.goes_on()
        assert not whole.leader("a")
    for machine in dead:
        assert "waiting: the other region takes writes" in whole.ssh(machine.name, "journalctl", "--boot", "--unit", "patroni")
    assert ledger.lost("b") == []

    nobody_takes_writes_until_an_operator_decides(whole)

    begun = time.monotonic()
    if unsent:
        assert play(whole, "rejoin.yml", "-e", "target_region=a").returncode != 0
    regions.rejoin(whole, "a")
    print(f"region a in sync {time.monotonic() - begun:.1f} s after the command")

    with client("b") as ledger:
        whole.playbook("failback.yml", "-e", "target_region=a")
        ledger.goes_on()
    print(ledger.figures())
    assert whole.leader("a") and not whole.leader("b")
    assert ledger.failed("PUT") == []
    assert ledger.lost("a") == []


def nobody_takes_writes_until_an_operator_decides(cluster):
    """Region b dies, too, which took writes last, and comes back beside region a, which does not know that."""
    machines = [cluster.machines[place.name] for place in plan.databases("b")]
    for machine in machines:
        machine.kill()
    for machine in machines:
        machine.boot()
    journal = ("journalctl", "--boot", "--unit", "patroni")
    waiting = "waiting: the other region does not say who takes writes"
    nspawn.wait_until(lambda: all(waiting in cluster.ssh(machine.name, *journal) for machine in machines), "region b waits", 60)
    assert not cluster.members("a") and not cluster.members("b")
    command = [cluster.venv / "bin/ansible", "region_b:&database", "--inventory", cluster.inventory, "--module-name", "ansible.builtin.file"]
    command += ["--args", "path=/run/dob-api-region-decided state=touch mode=0644"]
    vault = ["--vault-password-file", cluster.credentials.vault_password]
    cluster.operator(*command, *vault, check=True, env=cluster.environment(), stdout=subprocess.DEVNULL)
    nspawn.wait_until(lambda: cluster.leader("b"), "region b takes writes", 60)
    cluster.wait_until_whole("b")
    assert not cluster.leader("a")


@pytest.mark.long
def test_a_region_that_was_replaced_unseen_takes_no_write_after_it_sees_the_other(whole, client):
    override = ("-e", "region_fence_command=false", "-e", "region_fence_override=tested")
    old_primary = whole.machines[whole.leader("a")].address
    with client("a", "a-lb") as ledger:
        whole.cloud.cut("a")
        cut = time.monotonic()
        whole.playbook("failover-region.yml", "-e", "target_region=b", *override)
        ledger.goes_on()
        whole.cloud.heal("a")
        healed = time.monotonic()
        nspawn.wait_until(lambda: not accepts(whole, old_primary), "the old primary ends")
        print(f"the old primary ended {time.monotonic() - healed:.1f} s after the cut had healed")
        ledger.goes_on()
    nspawn.wait_until(lambda: not whole.members("a"), "the old region stands down")
    assert whole.leader("b")
    print(ledger.figures())
    during, after = ledger.acknowledged(cut, healed), ledger.acknowledged(healed)
    assert ledger.failed("PUT") == []
    assert [name for name in ledger.lost("b") if name in after] == []
    old = written(whole, "a")
    assert during.keys() & old, "during the cut the old region takes writes"
    assert after.keys() & old == set()

    refused = play(whole, "rejoin.yml", "-e", "target_region=a")
    held = max(map(int, re.findall(r"holds (\d+) transactions that the other region never received", refused.stdout)))
    assert refused.returncode != 0 and held > 0
    whole.playbook("rejoin.yml", "-e", "target_region=a", "-e", f"region_discard={held}")


def accepts(cluster, address):
    """Whether PostgreSQL takes connections at an address."""
    return cluster.operator("bash", "-c", f"exec 3<>/dev/tcp/{address}/5432", capture_output=True).returncode == 0


def written(cluster, region):
    """The names in the WAL of a region's hosts, none of which runs: what any of them ever took."""
    command = f"cat /var/lib/postgresql/{plan.POSTGRESQL}/{region}/pg_wal/0* | LC_ALL=C grep -aoE '[a-z]{{12}}' | sort -u"
    return {name for place in plan.databases(region) for name in cluster.ssh(place.name, command).split()}
