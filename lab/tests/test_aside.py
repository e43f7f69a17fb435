"""Rows as of an earlier time: a copy of the database beside it is read, and leaves nothing behind."""

import datetime
import os
import re
import shlex
import signal
import subprocess
import sys

import pytest

from docs.runbooks import pages as runbooks
from lab.hosts import nspawn, plan
from lab.trials import promises
from lab.trials.reader import Reader
from tools import TOP

PLAYBOOK, FOLDER, SOCKET = "restore-aside.yml", "/var/lib/postgresql/aside", "/run/dob-aside"
METRICS = "/var/lib/prometheus/node-exporter/dob-restore-aside.prom"
PLAN = "/usr/local/lib/dob-api/restore-plan"
ROWS = "select username, date_of_birth from users where username in ('ada', 'bob') order by 1"
# Everything that a copy has on a host: files, processes, units in systemd's memory.
LEFT = (
    f"ls -d {FOLDER} {SOCKET} {METRICS} /etc/systemd/system/dob-aside.service 2>/dev/null; pgrep --full {FOLDER}[/]; "
    "systemctl list-units --all --plain --no-legend 'dob-aside*'"
)
# What a process list shows another user while a copy is restored.
SEEN = "/var/tmp/aside-processes"
SAMPLE = "'while :; do ps -eo args; sleep 0.1; done'"
WATCH = f"systemd-run --quiet --unit=aside-watch --uid=nobody --property=StandardOutput=append:{SEEN} sh -c {SAMPLE}"


def play(cluster, *settings):
    done = cluster.playbook(PLAYBOOK, *(word for setting in settings for word in ("-e", setting)), check=False, stdout=subprocess.PIPE)
    return done.returncode, re.sub(r"\s+", " ", done.stdout)


def postgres(cluster, host, *command, check=True):
    return cluster.operator(*cluster.ssh_command(host, "sudo", "-u", "postgres", *command), check=check, capture_output=True, timeout=120)


def aside(cluster, host, statement):
    """What a statement on the copy gives: its rows, and what PostgreSQL refuses."""
    psql = cluster.ssh_command(host, "sudo", "-u", "postgres", "psql", "-X", "-At", "-h", SOCKET, "-d", "dob")
    done = cluster.operator(*psql, input=statement, capture_output=True, timeout=60)
    return done.stdout.splitlines(), done.stderr


def left(cluster, host):
    return cluster.ssh(host, f"{LEFT}; true")


def put(cluster, name, birthday):
    url = f"http://{cluster.machines['a-lb'].address}/hello/{name}"
    words = ("curl", "-sS", "-m", "40", "-o", "/dev/null", "-w", "%{http_code}", "-X", "PUT", "-d", f'{{"dateOfBirth":"{birthday}"}}', url)
    assert cluster.operator(*words, capture_output=True).stdout == "204"


def greeted(cluster, name):
    return cluster.http_status(f"http://{cluster.machines['a-lb'].address}/hello/{name}")


def rows(cluster):
    return cluster.sql("a", ROWS, "dob")


@pytest.fixture
def saved(whole):
    """The cluster with a backup in both buckets."""
    if "backup:" not in postgres(whole, whole.leader("a"), "pgbackrest", "--stanza=a", "info").stdout:
        whole.playbook("backup.yml", "-e", "backup_type=full")
    return whole


def replica(cluster):
    return next(place.name for place in plan.databases("a") if place.name != cluster.leader("a"))


def moment():
    """A time between what was written before and what is written next, whose WAL is on its way."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def archived(cluster, then, host, bucket="a"):
    """Waits until a bucket holds a time."""
    cluster.sql("a", "select pg_logical_emit_message(true, 'test', 'a file'); select pg_switch_wal()")
    nspawn.wait_until(lambda: postgres(cluster, host, PLAN, "--bucket", bucket, then, check=False).returncode == 0, "the bucket holds the time", 120)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (["aside_host=a-monitor", "restore_target=latest"], "'a-monitor' is no database host"),
        (["aside_host=a-db2", "restore_target=2026-01-01T00:00:00"], "has no time zone"),
        pytest.param(["restore_target=latest"], "name one with --extra-vars aside_host=NAME", marks=pytest.mark.long),
        pytest.param(["aside_host=a-db2"], "say how far with --extra-vars restore_target=latest", marks=pytest.mark.long),
        pytest.param(["aside=removed"], "aside is 'removed'", marks=pytest.mark.long),
        pytest.param(["aside_host=a-db2", "restore_target=2999-01-01T00:00:00Z"], "lies in the future", marks=pytest.mark.long),
        pytest.param(["aside_host=a-db2", "restore_target=2000-01-01T00:00:00Z"], "choose a time from", marks=pytest.mark.long),
        pytest.param(["aside_host=a-db2", "restore_target=latest", "aside_bucket=c"], "invalid choice: 'c'", marks=pytest.mark.long),
        pytest.param(
            ["aside_host=a-db2", "restore_target=latest", "pgbackrest_aside_reserve=9999999999999"], "has no room for", marks=pytest.mark.long
        ),
    ],
)
def test_a_copy_that_cannot_be_meant_is_refused_before_anything_changes(saved, settings, reason):
    code, said = play(saved, *settings)
    assert code != 0 and reason in said, said
    assert left(saved, "a-db2") == ""


@pytest.mark.parametrize(("settings", "reason"), [(["aside=create"], "name one with"), (["aside=create", "aside_host=a-db2"], "say how far with")])
def test_to_create_a_copy_takes_a_host_and_a_time_however_it_is_asked_for(settings, reason):
    """Else every database host would get one. No host can be reached: the refusal must come before."""
    program = os.path.join(os.path.dirname(sys.executable), "ansible-playbook")
    words = [word for setting in ("ansible_host=127.0.0.1", "ansible_port=1", *settings) for word in ("-e", setting)]
    command = [program, "--inventory", "inventories/plain", PLAYBOOK, *words]
    done = subprocess.run(command, cwd=TOP / "ansible", check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0 and reason in done.stdout and "UNREACHABLE" not in done.stdout, done.stdout


def test_a_time_after_the_newest_wal_is_refused_with_the_times_that_there_are(saved):
    # A file of the WAL may arrive at this moment.
    now = shlex.quote(f"until ! {PLAN} $(date --utc +%Y-%m-%dT%H:%M:%S.%6NZ); do :; done")
    refused = postgres(saved, "b-db1", "sh", "-c", now).stderr
    assert re.search(r"after the newest WAL in the bucket of region b: choose a time from \S+ to \S+, or write latest", refused), refused


def commands(number):
    """What the page has an operator run by hand."""
    return [block.commands for block in runbooks.blocks() if (block.page, block.mark) == ("restore-aside", "by-hand")][number]


def copy(cluster, folder, host, *changes):
    """Copies rows as the page says, with what it says to write for other rows."""
    text = commands(1).replace("a-db2", "HOST").replace("a-db1", cluster.leader("a")).replace("HOST", host)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    shell = ("bash", "-o", "pipefail", "-c", Reader(cluster, folder).own() + text)
    done = cluster.operator(*shell, cwd=TOP / "ansible", env=cluster.environment(), capture_output=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.split()


@pytest.mark.long
@pytest.mark.parametrize("bucket", ["a", "b"])
def test_rows_as_of_a_time_are_read_aside_copied_back_and_nothing_is_left(saved, tmp_path, bucket):
    host = replica(saved)
    put(saved, "ada", "1985-12-10")
    put(saved, "bob", "1990-01-01")
    then = moment()
    put(saved, "bob", "1991-02-02")
    saved.sql("a", "delete from users where username = 'ada'", "dob")
    archived(saved, then, host, bucket)
    saved.ssh(host, WATCH)
    try:
        code, said = play(saved, f"aside_host={host}", f"restore_target={then}", f"aside_bucket={bucket}")
    finally:
        saved.ssh(host, "systemctl stop aside-watch")
    assert code == 0, said
    # Lines about files and WAL come before, if it takes longer than a few seconds.
    assert "the copy can be read" in said
    assert f"{host} has a read-only copy of the database" in said
    seen = saved.ssh(host, f"cat {SEEN}; rm {SEEN}")
    assert f"--pg1-path={FOLDER}/data" in seen
    secrets = [value for name, value in saved.credentials.secrets().items() if name.startswith("pgbackrest")]
    assert [secret for secret in secrets if secret in seen] == []

    # The rows of then, and nobody writes, not even the superuser.
    assert aside(saved, host, ROWS)[0] == ["ada|1985-12-10", "bob|1990-01-01"]
    for statement, refused in (
        ("delete from users", "cannot execute DELETE in a read-only transaction"),
        ("begin; set transaction read write", "cannot set transaction read-write mode during recovery"),
        ("alter system set listen_addresses = '*'", "ALTER SYSTEM is not allowed in this environment"),
    ):
        assert refused in aside(saved, host, statement)[1]
    assert saved.ssh(host, "ss --listening --tcp --processes --no-header | grep -c postgres").strip() == "1"
    assert aside(saved, host, "show archive_mode")[0] == ["off"]
    assert host in saved.members("a") and len(saved.members("a")) == 3
    code, said = play(saved, f"aside_host={host}", "restore_target=latest")
    assert code != 0 and "has a copy that was restored aside" in said

    # One user comes back, and the service sees them; a newer row stays until it is meant.
    assert greeted(saved, "ada") == "404"
    assert "1985-12-10" in Reader(saved, tmp_path, host).run("host", commands(0)).stdout
    assert copy(saved, tmp_path, host)[-3:] == ["INSERT", "0", "1"]
    assert greeted(saved, "ada") == "200"
    assert rows(saved) == ["ada|1985-12-10", "bob|1991-02-02"]
    assert copy(saved, tmp_path, host)[-3:] == ["INSERT", "0", "0"]
    table = (" where username = 'ada'", "")
    assert copy(saved, tmp_path, host, table)[-3:-1] == ["INSERT", "0"]
    assert rows(saved) == ["ada|1985-12-10", "bob|1991-02-02"]
    copy(saved, tmp_path, host, table, ("do nothing", "do update set date_of_birth = excluded.date_of_birth"))
    assert rows(saved) == ["ada|1985-12-10", "bob|1990-01-01"]

    assert Reader(saved, tmp_path, host).checks("alerts/restore-aside") != []
    code, said = play(saved, "aside=remove")
    assert code == 0, said
    assert left(saved, host) == ""
    assert Reader(saved, tmp_path, host).checks("alerts/restore-aside") == []
    assert play(saved, "aside=remove")[0] == 0
    assert promises.broken(saved) == []


@pytest.mark.long
def test_a_copy_of_the_latest_time_stays_as_it_was(saved):
    host = replica(saved)
    put(saved, "ada", "1985-12-10")
    archived(saved, moment(), host)
    assert play(saved, f"aside_host={host}", "restore_target=latest")[0] == 0
    saved.sql("a", "delete from users where username = 'ada'", "dob")
    archived(saved, moment(), host)
    # Also after it was started again.
    saved.ssh(host, "systemctl restart dob-aside")
    assert aside(saved, host, "select count(*) from users where username = 'ada'")[0] == ["1"]
    assert play(saved, "aside=remove", f"aside_host={host}")[0] == 0
    assert left(saved, host) == ""


@pytest.mark.long
def test_what_a_killed_run_leaves_is_reported_and_removed_by_one_command(saved):
    host = replica(saved)
    command = saved.playbook_command(PLAYBOOK, "-e", f"aside_host={host}", "-e", "restore_target=latest")
    run = subprocess.Popen(saved.operator_command(*command), env=saved.environment(), start_new_session=True, stdout=subprocess.DEVNULL)
    try:
        nspawn.wait_until(lambda: f"{FOLDER}\n" in left(saved, host), "the run has begun", 120)
    finally:
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    assert METRICS in left(saved, host)
    code, said = play(saved, f"aside_host={host}", "restore_target=latest")
    assert code != 0 and "or a part of one: remove it first" in said
    assert play(saved, "aside=remove")[0] == 0
    assert left(saved, host) == ""


@pytest.mark.long
def test_a_restore_that_fails_says_why_and_leaves_nothing(saved):
    host = replica(saved)
    # A timeline that the archive does not have.
    code, said = play(saved, f"aside_host={host}", "restore_target=latest", "restore_timeline=99")
    assert code != 0 and "recovery target timeline 99 does not exist" in said, said
    assert left(saved, host) == ""
