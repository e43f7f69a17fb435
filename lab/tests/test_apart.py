"""What happens to histories that two regions wrote while they did not see each other: none is discarded unasked, and none survives."""

import re
import subprocess

import pytest

from lab.hosts import nspawn, plan


OVERRIDE = ("-e", "region_fence_command=false", "-e", "region_fence_override=tested")
ROWS = "select count(*) || ' ' || coalesce(sum(hashtextextended(username || date_of_birth, 0)), 0) from users"


def play(cluster, name, *arguments):
    return cluster.playbook(name, *arguments, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def flat(done):
    return re.sub(r"\s+", " ", done.stdout)


def held(done):
    """How many transactions a playbook counted, on the host that has most."""
    return max(map(int, re.findall(r"holds (\d+) transactions that the other region never received", done.stdout)), default=0)


def on_member(cluster, name, statement, database="dob"):
    psql = cluster.ssh_command(name, "sudo", "-u", "postgres", "psql", "-X", "-At", "-v", "ON_ERROR_STOP=1", "-d", database)
    return cluster.operator(*psql, input=statement, check=True, capture_output=True, timeout=60).stdout.strip()


def rows(cluster):
    """What each member of both regions holds, once all have replayed the same."""
    leader = next(filter(None, map(cluster.leader, cluster.regions())))
    position = on_member(cluster, leader, "select pg_current_wal_insert_lsn()")
    names = [place.name for region in cluster.regions() for place in plan.databases(region)]
    for name in names:
        replayed = f"select not pg_is_in_recovery() or pg_last_wal_replay_lsn() >= '{position}'"
        nspawn.wait_until(lambda name=name: on_member(cluster, name, replayed) == "t", f"{name} replays {position}", 60)
    return {name: on_member(cluster, name, ROWS) for name in names}


def the_same_everywhere(cluster):
    found = rows(cluster)
    assert len(set(found.values())) == 1, found


def end_primary(cluster, region):
    """Has another host of a region take over, and brings the first one back."""
    before = cluster.machines[nspawn.wait_until(lambda: leads(cluster, region), f"a primary in region {region}")]
    before.kill()
    nspawn.wait_until(lambda: leads(cluster, region) not in (None, before.name), "another host leads", 90)
    return before


def leads(cluster, region):
    """Who takes writes in a region that the operator may not see: its own balancer asks."""
    for place in plan.databases(region):
        command = ["curl", "-sk", "-m", "2", "-o", "/dev/null", "-w", "%{http_code}", f"https://{place.address}:8008/primary"]
        if inside(cluster, f"{region}-lb", *command) == "200":
            return place.name
    return None


def inside(cluster, name, *command):
    """What a command answers on the network of a host."""
    done = subprocess.run(["ip", "netns", "exec", cluster.machines[name].namespace, *command], capture_output=True, text=True, check=False)
    return done.stdout.strip()


@pytest.mark.long
def test_two_histories_with_the_same_timeline_number_are_told_apart(whole, client):
    """Both regions fail over while they do not see each other, each once: both write the same timeline number."""
    with client("a", "a-lb") as ledger:
        whole.cloud.cut("a")
        whole.playbook("failover-region.yml", "-e", "target_region=b", *OVERRIDE)
        killed = end_primary(whole, "a")
        ledger.goes_on(120)
    killed.boot()
    with client("b") as newer:
        newer.goes_on()
        whole.cloud.heal("a")
        nspawn.wait_until(lambda: not whole.members("a"), "region a stands down", 120)
        newer.goes_on()

    refused = play(whole, "rejoin.yml", "-e", "target_region=a")
    print(flat(refused)[-1500:])
    assert refused.returncode != 0, "what region a acknowledged is discarded only when somebody says so"
    assert held(refused) > 0
    whole.playbook("rejoin.yml", "-e", "target_region=a", "-e", f"region_discard={held(refused)}")
    assert newer.lost("b") == []
    the_same_everywhere(whole)
