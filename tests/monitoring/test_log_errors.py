"""Log lines are counted once, by host and unit, and lines that call themselves errors count as errors."""

import re
import shutil

import pytest

from conftest import HOST, TOP, run

PROGRAM = TOP / "ansible/roles/logs/files/log-errors"
# For each program one line that is an error and one that is not, as it writes them.
LINES = [
    ("patroni", 6, "2026-11-26 20:39:45.800 UTC [123] ERROR:  canceling statement due to statement timeout", True),
    ("patroni", 6, "2026-11-26 20:39:45.800 UTC [123] FATAL:  the database system is starting up", True),
    ("patroni", 6, "2026-11-26 20:39:45,092 INFO: no action. I am (a-db1), the leader with the lock", False),
    ("patroni", 6, "P00  ERROR: [103]: unable to find a valid repository", True),
    ("etcd", 6, '{"level":"error","ts":"2026-11-26T20:39:45Z","msg":"lost leader"}', True),
    ("etcd", 6, '{"level":"warn","ts":"2026-11-26T20:39:45Z","msg":"apply request took too long","error":""}', False),
    ("dob-api", 6, '{"timestamp":"2026-11-26T20:39:45Z","level":"ERROR","message":"no primary"}', True),
    ("dob-api", 6, '{"timestamp":"2026-11-26T20:39:45Z","level":"INFO","message":"errors: 0"}', False),
    ("dob-backup@due", 6, "backup: region a: pgbackrest backup of stanza a failed: ERROR: [056]: no primary", True),
    ("ssh", 3, "error: kex_exchange_identification", True),
    ("ssh", 6, "Accepted publickey for root", False),
]


def journal(folder, sender, lines, begin):
    """Writes lines into a sender's journal, with the program that receives them on a monitoring host."""
    entries = []
    for number, (unit, priority, message, _) in enumerate(lines, begin):
        fields = {"__REALTIME_TIMESTAMP": 1795725600000000 + number, "__MONOTONIC_TIMESTAMP": number + 1, "_BOOT_ID": "0" * 31 + "1"}
        fields |= {"_HOSTNAME": sender, "_SYSTEMD_UNIT": f"{unit}.service", "PRIORITY": priority, "MESSAGE": message}
        entries.append("".join(f"{name}={value}\n" for name, value in fields.items()))
    receive = ("/usr/lib/systemd/systemd-journal-remote", f"--output=/{folder.relative_to(HOST)}/remote-{sender}.journal", "-")
    received = run("chroot", HOST, *receive, input="\n".join(entries) + "\n")
    assert received.returncode == 0, received.stderr


@pytest.fixture
def logs():
    """A folder at the path that the monitoring host's programs use; it exists only during the test."""
    folder = HOST / "var/tmp/dob-log-errors-test"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


def count(logs):
    """Runs the program like its timer, and returns the metrics by name, host and unit."""
    shutil.copy(PROGRAM, logs / "log-errors")
    inside = f"/{logs.relative_to(HOST)}"
    ran = run("chroot", HOST, "/usr/bin/python3", f"{inside}/log-errors", inside, f"{inside}/state.json", inside)
    assert ran.returncode == 0, ran.stderr
    lines = (logs / "dob-logs.prom").read_text().splitlines()
    found = (re.fullmatch(r'dob_log_(\w+)_total\{host="(.*)",unit="(.*)"\} (\d+)', line) for line in lines)
    return {(kind, host, unit): int(number) for kind, host, unit, number in (match.groups() for match in found if match)}


def expected(host, lines):
    sums = {}
    for unit, _, _, error in lines:
        unit = unit.partition("@")[0]
        sums["lines", host, unit] = sums.get(("lines", host, unit), 0) + 1
        sums["errors", host, unit] = sums.get(("errors", host, unit), 0) + error
    return sums


def test_each_line_counts_once_for_its_host_and_unit(logs):
    journal(logs, "a-db1", LINES, 0)
    journal(logs, "a-db2", LINES[:3], 100)
    assert count(logs) == expected("a-db1", LINES) | expected("a-db2", LINES[:3])
    assert count(logs) == expected("a-db1", LINES) | expected("a-db2", LINES[:3])


def test_what_arrives_late_from_one_host_is_counted_though_others_were_faster(logs):
    journal(logs, "a-db1", LINES, 1000)
    count(logs)
    journal(logs, "a-db2", LINES, 0)
    journal(logs, "a-db1", LINES[:2], 2000)
    assert count(logs) == expected("a-db1", LINES + LINES[:2]) | expected("a-db2", LINES)


def test_two_senders_with_one_name_do_not_spoil_the_figures(logs):
    journal(logs, "a-db1", LINES, 0)
    (logs / "remote-a-db1.journal").rename(logs / "remote-127.0.1.11.journal")
    journal(logs, "a-db1", LINES, 100)
    assert count(logs) == expected("a-db1", LINES + LINES)
