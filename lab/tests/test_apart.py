"""What happens to histories that two regions wrote while they did not see each other: none is discarded unasked, and none survives."""

import json
import re
import subprocess
import time

import pytest

from docs.runbooks import pages as runbooks
from lab.hosts import nspawn, plan
from lab.trials import failbacks, regions

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
        nspawn.wait_until(lambda name=name, replayed=replayed: on_member(cluster, name, replayed) == "t", f"{name} replays {position}", 60)
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
    """The host that takes writes in a region that the operator may not see: its own balancer asks."""
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
    with client("b") as newer:
        newer.goes_on()
        whole.cloud.heal("a")
        nspawn.wait_until(lambda: not whole.members("a"), "region a stands down", 120)
        newer.goes_on()
    # Later than the others: so it never followed what they wrote.
    killed.boot()

    refused = play(whole, "rejoin.yml", "-e", "target_region=a")
    print(flat(refused)[-1500:])
    assert refused.returncode != 0, "what region a acknowledged is discarded only when somebody says so"
    assert held(refused) > 0
    before = put_aside(whole)
    whole.playbook("rejoin.yml", "-e", "target_region=a", "-e", f"region_discard={held(refused)}")
    assert newer.lost("b") == []
    the_same_everywhere(whole)
    # The host that was killed has only what both histories share: it is rewound. The others wrote the number that the other region has, too.
    copied = {name for name, count in put_aside(whole).items() if count > before[name]}
    assert copied == before.keys() - {killed.name}


def put_aside(cluster, region="a"):
    """How many old databases each host of a region keeps."""
    count = f"find /var/lib/postgresql -maxdepth 2 -name '{region}.2*' | wc -l"
    return {place.name: int(cluster.ssh(place.name, count)) for place in plan.databases(region)}


@pytest.mark.long
def test_a_rejoin_that_gave_up_during_a_copy_continues_with_that_copy(whole):
    """The copy of one host takes longer than the first run waits: the second run waits for it, and does not copy again."""
    slow = "systemd-run --quiet sh -c 'until pkill -STOP --exact pg_basebackup; do sleep 0.01; done'"
    whole.ssh("b-db3", slow)
    first = play(whole, "rejoin.yml", "-e", "target_region=b", "-e", "region_copy=true", "-e", "region_patience=20")
    assert first.returncode != 0
    before = put_aside(whole, "b")
    whole.ssh("b-db3", "systemd-run --quiet --on-active=25 pkill -CONT --exact pg_basebackup")
    second = play(whole, "rejoin.yml", "-e", "target_region=b")
    assert second.returncode == 0, second.stdout
    assert "wait for the copies of" in flat(second)
    assert put_aside(whole, "b") == before
    the_same_everywhere(whole)


def part(cluster, client):
    """Both regions take writes while they do not see each other; returns what each acknowledged then."""
    with client("a", "a-lb") as older:
        cluster.cloud.cut("a")
        cluster.playbook("failover-region.yml", "-e", "target_region=b", *OVERRIDE)
        older.goes_on(120)
    with client("b") as newer:
        newer.goes_on()
        cluster.cloud.heal("a")
        nspawn.wait_until(lambda: not cluster.members("a"), "region a stands down", 120)
    return older, newer


@pytest.mark.long
def test_wal_that_cannot_be_counted_is_not_taken_for_nothing(whole, client):
    _, newer = part(whole, client)
    # As when the WAL of the fork was recycled.
    folder = f"/var/lib/postgresql/{plan.POSTGRESQL}/a/pg_wal"
    hide = f"cd {folder} && mkdir -p /var/lib/hidden && mv 0000000*[0-9A-F] /var/lib/hidden/ && ls /var/lib/hidden | wc -l"
    assert int(whole.ssh("a-db2", hide)) > 0
    refused = play(whole, "rejoin.yml", "-e", "target_region=a", "-e", "region_discard=1000000")
    assert refused.returncode != 0
    assert "cannot count what to rejoin would discard of a-db2" in flat(refused)
    whole.playbook("rejoin.yml", "-e", "target_region=a", "-e", "region_discard=all")
    assert newer.lost("b") == []
    the_same_everywhere(whole)
    back_to_a(whole)


def back_to_a(cluster):
    cluster.playbook("failback.yml", "-e", "target_region=a")
    assert cluster.leader("a") and not cluster.leader("b")


def saved(cluster, store):
    """The files of region a's stanza in a bucket."""
    listing = cluster.ssh("a-db1", f"runuser -u postgres -- pgbackrest --stanza=a --repo={store} --output=json repo-ls --recurse archive/a")
    return {name for name, entry in json.loads(listing).items() if entry["type"] == "file"}


@pytest.mark.long
def test_what_was_saved_of_a_discarded_history_is_moved_aside_in_both_buckets(whole, client):
    _, newer = part(whole, client)
    fork = whole.get(f"https://{whole.machines[whole.leader('b')].address}:8008/history")[-1][1]
    whole.playbook("rejoin.yml", "-e", "target_region=a", "-e", "region_discard=1000000")
    for store in (1, 2):
        segments = [re.search(r"/([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})-", name) for name in saved(whole, store)]
        assert [found[0] for found in segments if found and (int(found[2], 16) << 32) + (int(found[3], 16) + 1 << 24) > fork] == []
        aside = whole.ssh("a-db1", f"runuser -u postgres -- pgbackrest --stanza=a --repo={store} repo-ls --recurse superseded/a")
        assert re.search(r"[0-9A-F]{24}-[0-9a-f]{40}", aside), "the discarded WAL is kept"
    # The region archives again under the names that the discarded history had.
    back_to_a(whole)
    whole.playbook("backup.yml", "-e", "backup_type=full")
    whole.playbook("restore-drill.yml", "-e", "target_region=a")
    assert newer.lost("a") == []
    remove_what_is_put_aside(whole)


def remove_what_is_put_aside(cluster):
    """By the commands of the page, as they stand there."""
    blocks = [block.commands for block in runbooks.blocks() if (block.page, block.mark) == ("rejoin", "by-hand")]
    listing, *removals = [line for line in "".join(blocks).splitlines() if "pgbackrest" in line]
    times = cluster.ssh("a-db1", listing).split()
    assert times
    for time_aside in times:
        for removal in removals:
            cluster.ssh("a-db1", removal.replace("TIME", time_aside))
    assert cluster.ssh("a-db1", listing).split() == []


@pytest.mark.long
def test_a_clock_that_is_behind_decides_nothing(whole, client):
    """The operator's clock is ten minutes behind when a region is lost: its clients write all the same."""
    behind = int(time.time()) - 600
    dead = [whole.machines[place.name] for place in plan.databases("a")]
    with client("b") as ledger:
        for machine in dead:
            machine.kill()
        done = play(whole, "failover-region.yml", "-e", "target_region=b", "-e", f"region_now={behind}")
        assert done.returncode == 0, done.stdout
        ledger.goes_on()
        for machine in dead:
            machine.boot()
        ledger.goes_on()
    assert ledger.failed("PUT") == []
    regions.rejoin(whole, "a")
    back_to_a(whole)


@pytest.mark.long
@pytest.mark.parametrize("steps", [18, 26, 34])
def test_playbooks_that_were_killed_end_well_when_they_run_again(whole, client, steps):
    dead = [whole.machines[place.name] for place in plan.databases("a")]
    for machine in dead:
        machine.kill()
    for name, region in (("failover-region.yml", "b"), ("rejoin.yml", "a"), ("failback.yml", "a")):
        if name == "rejoin.yml":
            for machine in dead:
                machine.boot()
            nspawn.wait_until(lambda: regions.waits(whole, "a"), "region a waits", 120)
        settings = [f"target_region={region}"] + (["region_discard=1000000"] if name == "rejoin.yml" else [])
        step = failbacks.killed(whole, name, steps, *settings)
        done = regions.attempt(whole, name, *settings)
        print(f"{name} killed at '{step}', then {done.returncode}")
        assert done.returncode == 0, done.stdout
    assert whole.leader("a") and not whole.leader("b")
    the_same_everywhere(whole)
