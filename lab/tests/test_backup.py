"""What backups promise: they are in both regions, what is wrong with one is noticed, and a lost region is restored from the other."""

import datetime
import json
import re
import subprocess
import time

import pytest

from lab.hosts import nspawn, plan, storage
from lab.reports import watch
from lab.trials import faults, promises, regions

PROGRAMS = "/usr/local/lib/dob-api"
WAL, BUNDLE = r"/archive/a/17-1/.*/[0-9A-F]{24}-", r"/backup/a/.*/bundle/\d+$"
DAMAGE = "printf damaged | dd of={0} bs=1 seek=100 conv=notrunc status=none"
METRICS = "/var/lib/prometheus/node-exporter"


def play(cluster, name, *arguments):
    return cluster.playbook(name, *arguments, check=False, stdout=subprocess.PIPE)


def postgres(cluster, host, *command, check=True):
    """Runs a command as PostgreSQL's user and returns it, with its output as text."""
    words = cluster.ssh_command(host, "sudo", "-u", "postgres", *command)
    return cluster.operator(*words, check=check, capture_output=True, timeout=120)


def figures(cluster, host, name):
    lines = cluster.ssh(host, "cat", f"{METRICS}/{name}.prom").splitlines()
    return dict(line.split() for line in lines if not line.startswith("#"))


def head(cluster, region):
    """Who leads a region, whether it takes writes or follows the other one."""
    members = cluster.members(region).values()
    return next(member["name"] for member in members if member["role"] in ("leader", "standby_leader"))


def write(cluster, region, *names):
    """Has the region's service write users."""
    for name in names:
        url = f"http://{cluster.machines[f'{region}-lb'].address}/hello/{name}"
        put = ("curl", "-sS", "-m", "40", "-o", "/dev/null", "-w", "%{http_code}", "-X", "PUT", "-d", '{"dateOfBirth":"2000-01-01"}')
        assert cluster.operator(*put, url, capture_output=True).stdout == "204"


def objects(cluster, region, part):
    """The objects of a region's bucket with names of this pattern, sorted, as files of its host."""
    listing = cluster.ssh(f"{region}-s3", "find", f"{storage.BUCKETS}/{storage.bucket(region)}/", "-type", "f")
    return [file for file in sorted(listing.splitlines()) if re.search(part, file)]


@pytest.fixture
def saved(whole):
    """The cluster with a backup."""
    if not objects(whole, "a", "backup.manifest"):
        whole.playbook("backup.yml", "-e", "backup_type=full")
    return whole


def test_a_backup_is_in_the_buckets_of_both_regions_and_costs_no_write(whole, client):
    with client("a") as ledger:
        begun = time.monotonic()
        whole.playbook("backup.yml", "-e", "backup_type=full")
        print(f"saved in both regions {time.monotonic() - begun:.1f} s after the command")
        ledger.goes_on()
    print(ledger.figures())
    assert ledger.failed("PUT") == []
    # A differential one, unless it is told otherwise.
    whole.playbook("backup.yml")
    postgres(whole, whole.leader("a"), f"{PROGRAMS}/backup", "incr")
    for region in whole.regions():
        found = postgres(whole, head(whole, region), "pgbackrest", "--stanza=a", "--repo=1", "info").stdout
        assert set(re.findall(r"(full|diff|incr) backup: \d{8}-\d{6}F", found)) == {"full", "diff", "incr"}
        assert "cipher: aes-256-cbc" in found
        assert whole.http_status(f"https://{whole.machines[f'{region}-s3'].address}/{storage.bucket(region)}", "--insecure") == "403"


def test_what_cannot_be_saved_is_refused(whole):
    refused = play(whole, "backup.yml", "-e", "backup_type=half")
    assert refused.returncode != 0
    assert "value of backup_type must be one of: full, diff, incr, got: half" in refused.stdout


def test_the_drill_proves_every_row_from_both_buckets(saved):
    proved = play(saved, "restore-drill.yml")
    assert proved.returncode == 0, proved.stdout
    for region in saved.regions():
        host = next(place.name for place in plan.databases(region) if place.name != head(saved, region))
        said = figures(saved, host, "dob-restore-drill")
        assert said["dob_restore_drill_ok"] == "1"
        assert int(said["dob_restore_drill_rows"]) > 100
        assert abs(time.time() - int(said["dob_restore_drill_last_success_timestamp_seconds"])) < 600
        assert saved.ssh(host, "ls", "/var/lib/postgresql/restore-drill") == ""


def test_a_drill_that_brings_back_other_rows_fails(saved):
    leader = saved.leader("a")
    label = re.findall(r"backup: (\S+)", postgres(saved, leader, "pgbackrest", "--stanza=a", "--repo=1", "info").stdout)[-1]
    note = ("pgbackrest", "--stanza=a", "--repo=1", f"--set={label}")
    noted = re.search(r"rows: (\d+)", postgres(saved, leader, *note, "info").stdout)[1]
    postgres(saved, leader, *note, "--annotation=rows=7", "annotate")
    host = next(place.name for place in plan.databases("a") if place.name != leader)
    try:
        drill = postgres(saved, host, f"{PROGRAMS}/restore-drill", check=False)
        assert drill.returncode != 0
        assert f"brings back rows {noted} instead of 7" in drill.stderr
        assert figures(saved, host, "dob-restore-drill")["dob_restore_drill_ok"] == "0"
    finally:
        postgres(saved, leader, *note, f"--annotation=rows={noted}", "annotate")


@pytest.mark.parametrize(
    ("part", "damage"),
    [
        (WAL, DAMAGE),
        pytest.param(WAL, "rm {0}", marks=pytest.mark.long),
        pytest.param(BUNDLE, DAMAGE, marks=pytest.mark.long),
        (BUNDLE, "rm {0}"),
    ],
)
def test_what_is_damaged_or_missing_in_a_bucket_is_noticed(saved, part, damage):
    leader, store = head(saved, "b"), "b-s3"
    # What is missing at an end of the WAL cannot be known to have been there.
    found = objects(saved, "b", part)
    file = found[len(found) // 2]
    saved.ssh(store, f"cp -p {file} /var/tmp/kept && {damage.format(file)}")
    try:
        noticed = postgres(saved, leader, f"{PROGRAMS}/backup-verify", check=False)
        assert noticed.returncode != 0
        assert "the bucket of region b is damaged" in noticed.stderr
        assert figures(saved, leader, "dob-backup-verify")['dob_backup_verify_ok{repo="b"}'] == "0"
    finally:
        saved.ssh(store, f"cp -p /var/tmp/kept {file}")
    assert "the bucket of region b is whole" in postgres(saved, leader, f"{PROGRAMS}/backup-verify").stdout


@pytest.mark.long
def test_an_unreachable_bucket_harms_no_request_and_catches_up(saved, client):
    fault = faults.StoreUnreachable(saved)
    with client("a") as ledger:
        fault.begin()
        ledger.goes_on()
        fault.end()
        fault.recover()
    print(ledger.figures())
    assert ledger.failed("PUT") == ledger.failed("GET") == []
    assert any(fault.wal in file for file in objects(saved, "a", "/archive/a/"))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "name the region with --extra-vars target_region=NAME"),
        (["-e", "target_region=b"], "say how far with --extra-vars restore_target=latest"),
        (["-e", "target_region=b", "-e", "restore_target=latest"], "the other region takes writes"),
        (["-e", "target_region=a", "-e", "restore_target=latest"], "PostgreSQL runs on a-db1"),
    ],
)
def test_a_restore_that_cannot_be_meant_is_refused(whole, arguments, reason):
    refused = play(whole, "restore.yml", *arguments)
    assert refused.returncode != 0
    assert reason in re.sub(r"\s+", " ", refused.stdout)
    assert whole.leader("a")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["yesterday"], "'yesterday' is no time"),
        (["2026-01-01T00:00:00"], "has no time zone"),
        (["2999-01-01T00:00:00Z"], "lies in the future"),
        (["2000-01-01T00:00:00Z"], "before the end of the oldest backup"),
        (["latest", "20000101-000000F"], "there is no backup 20000101-000000F in the bucket of region b"),
    ],
)
def test_a_point_that_the_bucket_does_not_hold_is_refused(saved, arguments, reason):
    refused = postgres(saved, "b-db1", f"{PROGRAMS}/restore-plan", *arguments, check=False)
    assert refused.returncode != 0
    assert reason in refused.stderr


def test_a_region_lost_with_its_bucket_is_replaced_saved_and_restored_to_a_point_in_time(saved, client):
    # The clocks of two operators: the first one's is days ahead, the second one's ten minutes behind. Clocks decide nothing.
    ahead, behind = (f"region_now={int(time.time()) + seconds}" for seconds in (3 * 86400, -600))
    with client("b") as ledger:
        # WAL that no client asked for: all hosts of the region hold some that the other one never received when they crash.
        snapshot = "runuser --user postgres -- psql --no-psqlrc --command='select pg_log_standby_snapshot()'"
        saved.ssh(saved.leader("a"), f'systemd-run --quiet sh -c "for turn in $(seq 100 | xargs); do {snapshot}; sleep 0.2; done"')
        saved.cloud.cut("a")
        commanded = time.monotonic()
        saved.playbook("failover-region.yml", "-e", "target_region=b", "-e", ahead)
        ledger.goes_on()
    print(f"{ledger.figures()}; first write {ledger.gap(commanded):.1f} s after the command, with the lost bucket swallowing packets")
    assert ledger.failed("PUT") == []
    # The last of what region a acknowledged had not been carried: a restore cannot bring it back, and loses nothing else.
    uncarried = ledger.lost("b")

    # The new primary archives into its own stanza, although the other bucket is lost.
    write(saved, "b", "before")
    then = moment()
    write(saved, "b", "after")
    saved.sql("b", "drop table users", "dob")
    wal = saved.sql("b", "select pg_walfile_name(pg_switch_wal())")[0]
    nspawn.wait_until(lambda: any(wal in file for file in objects(saved, "b", "/archive/b/")), "the new primary archives", 180)

    # What comes back without the other region starts no PostgreSQL by itself.
    for place in plan.databases("b"):
        saved.machines[place.name].kill()
    for place in plan.databases("b"):
        saved.machines[place.name].boot()
    begun = time.monotonic()
    saved.playbook("restore.yml", "--limit", "region_b,localhost", "-e", "target_region=b", "-e", f"restore_target={then}", "-e", behind)
    print(f"region b restored {time.monotonic() - begun:.1f} s after the command")
    # The service remembers the epoch of the promotion before: it writes only to a primary of a later one.
    with client("b") as newer:
        newer.goes_on()
    assert newer.failed("PUT") == []
    # From a backup that region a made, over the WAL of both: nothing from before the point is missing.
    assert saved.sql("b", "select username from users where username in ('before', 'after')", "dob") == ["before"]
    assert ledger.lost("b") == uncarried
    write(saved, "b", "again")

    regions.end_loss(saved, "a")
    # An operator may be quicker than etcd.
    for place in plan.databases("a"):
        saved.ssh(place.name, "systemctl stop etcd && systemd-run --quiet sh -c 'sleep 12; systemctl start etcd'")
    regions.rejoin(saved, "a")
    regions.fail_back(saved, "a")
    assert saved.sql("a", "select username from users where username in ('before', 'again') order by 1", "dob") == ["again", "before"]
    nspawn.wait_until(lambda: [slots(saved, "a"), slots(saved, "b")] == ["1", "0"], "WAL is kept for who follows, and for nobody else", 30)


def moment():
    """Now, as the page of the playbook writes a time."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def stopped_between(cluster, *users):
    """The moment between two writes, after which Patroni is stopped in region a."""
    write(cluster, "a", users[0])
    then = moment()
    write(cluster, "a", users[1])
    cluster.sql("a", "select pg_switch_wal()")
    for place in plan.databases("a"):
        cluster.ssh(place.name, "systemctl", "stop", "patroni")
    return then


@pytest.mark.long
def test_a_standby_region_that_a_stopped_restore_left_behind_rejoins(saved):
    then = stopped_between(saved, "early", "late")
    saved.playbook("restore.yml", "--limit", "region_a,localhost", "-e", "target_region=a", "-e", f"restore_target={then}")
    write(saved, "a", "later")
    refused = play(saved, "rejoin.yml", "-e", "target_region=b")
    assert "would discard" in re.sub(r"\s+", " ", refused.stdout)
    saved.playbook("rejoin.yml", "-e", "target_region=b", "-e", "region_discard=1000000")
    found = "select username from users where username in ('early', 'late', 'later') order by 1"
    assert saved.sql("a", found, "dob") == ["early", "later"]
    assert promises.broken(saved) == []


@pytest.mark.long
def test_a_restore_of_the_primary_region_rebuilds_the_standby_region(saved):
    then = stopped_between(saved, "kept", "leftout")
    for target, reason in (("2000-01-01T00:00:00Z", "choose a time from"), ("2999-01-01T00:00:00Z", "lies in the future")):
        refused = play(saved, "restore.yml", "-e", "target_region=a", "-e", f"restore_target={target}")
        assert reason in re.sub(r"\s+", " ", refused.stdout)
    saved.playbook("restore.yml", "-e", "target_region=a", "-e", f"restore_target={then}")
    query = "select username from users where username in ('kept', 'leftout')"
    psql = ("psql", "--no-psqlrc", "--tuples-only", "--no-align", "--dbname=dob", f'--command="{query}"')
    members = [*plan.databases("a"), *plan.databases("b")]

    def held():
        return [postgres(saved, place.name, *psql).stdout.split() for place in members]

    nspawn.wait_until(lambda: held() == [["kept"]] * len(members), "every member of both regions holds what was restored", 60)
    assert saved.leader("a") and not saved.leader("b")


@pytest.mark.long
def test_a_lost_bucket_whose_queue_is_full_leaves_the_other_bucket_whole_and_gets_a_full_backup(saved):
    primary = saved.leader("a")
    before = len(objects(saved, "b", "backup/a/.*F/backup.manifest$"))
    limit = saved.ssh(primary, "cat", "/etc/pgbackrest/queue-limit").strip()
    saved.ssh(primary, "echo 2 >/etc/pgbackrest/queue-limit")
    saved.cloud.cut("b-s3")
    try:
        files = []

        def given_up():
            files.append(saved.sql("a", "select pg_logical_emit_message(true, 'test', 'a file'); select pg_walfile_name(pg_switch_wal())")[-1])
            named = saved.ssh(primary, "cat /var/lib/prometheus/node-exporter/dob-wal-queue-b.prom")
            return "dob_wal_dropped_timestamp_seconds" in named and saved.sql("a", "select last_archived_wal from pg_stat_archiver")[0] >= files[2]

        # A file more each time: what waits for the lost bucket becomes more than may wait.
        nspawn.wait_until(given_up, "WAL is given up", 300)
    finally:
        saved.ssh(primary, f"echo {limit} >/etc/pgbackrest/queue-limit")
        saved.cloud.heal("b-s3")

    def held(region):
        return [file for file in files if not any(file in path for path in objects(saved, region, "/archive/a/"))]

    nspawn.wait_until(lambda: held("a") == [], "the bucket that was there has every file", 120)
    assert held("b") != []
    postgres(saved, primary, f"{PROGRAMS}/backup", "due")
    assert len(objects(saved, "b", "backup/a/.*F/backup.manifest$")) == before + 1
    assert postgres(saved, primary, f"{PROGRAMS}/backup", "due").stdout == ""


DAMAGE_PAGE = f"printf damaged | dd of=/var/lib/postgresql/{plan.POSTGRESQL}/a/{{0}} bs=1 seek=4000 conv=notrunc status=none"


@pytest.mark.long
def test_damaged_pages_are_found_and_a_backup_of_them_is_never_chosen(saved):
    primary = saved.leader("a")
    replica = next(place.name for place in plan.databases("a") if place.name != primary)
    file = saved.sql("a", "checkpoint; select pg_relation_filepath('pg_proc')", "dob")[-1]
    plan_now = (f"{PROGRAMS}/restore-plan", "latest")
    whole = json.loads(postgres(saved, primary, *plan_now).stdout)["label"]
    try:
        for host in (replica, primary):
            saved.ssh(host, DAMAGE_PAGE.format(file))
        found = postgres(saved, replica, f"{PROGRAMS}/page-check", check=False)
        assert (found.returncode, "damaged pages" in found.stderr) == (1, True)
        assert figures(saved, replica, "dob-pages")["dob_pages_ok"] == "0"

        made = play(saved, "backup.yml", "-e", "backup_type=full")
        assert made.returncode != 0
        assert "has damaged pages" in re.sub(r"\s+", " ", made.stdout)
        assert figures(saved, primary, "dob-backup")['dob_backup_pages_damaged{repo="a"}'] == "1"
        assert json.loads(postgres(saved, primary, *plan_now).stdout)["label"] == whole
        damaged = re.findall(r"backup: (\S+)", postgres(saved, primary, "pgbackrest", "--stanza=a", "--repo=1", "info").stdout)[-1]
        refused = postgres(saved, primary, *plan_now, damaged, check=False)
        assert f"{damaged} in the bucket of region a has damaged pages" in refused.stderr
        # Prometheus looks every 15 s at what the server counted.
        alert = "ALERTS{alertname='PagesDamaged',alertstate='firing'}"
        nspawn.wait_until(
            lambda: {labels["instance"] for labels, _ in watch.ask(saved, "a", {"on": alert})["on"]} == {replica, primary}, "alerts", 120
        )
    finally:
        # As the page says: the primary moves to a host that is whole, and the damaged ones are copied from it.
        third = next(place.name for place in plan.databases("a") if place.name not in (primary, replica))
        saved.playbook("switchover.yml", "-e", "target_region=a", "-e", f"patroni_candidate={third}", stdout=subprocess.DEVNULL)
        for host in (primary, replica):
            saved.ssh(third, "patronictl", "--config-file", "/etc/patroni/config.yml", "reinit", "a", host, "--force", "--wait")
    saved.wait_until_whole("a")
    for host in (primary, replica):
        assert "every page is whole" in postgres(saved, host, f"{PROGRAMS}/page-check").stdout
    saved.playbook("backup.yml", "-e", "backup_type=full", stdout=subprocess.DEVNULL)
    assert figures(saved, third, "dob-backup")['dob_backup_pages_damaged{repo="a"}'] == "0"


def slots(cluster, region):
    count = "select count(*) from pg_replication_slots where slot_name = 'other_region'"
    return postgres(cluster, head(cluster, region), "psql", "--no-psqlrc", "--tuples-only", "--no-align", f'--command="{count}"').stdout.strip()
