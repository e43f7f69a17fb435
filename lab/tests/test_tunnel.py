"""A tunnel into the cloud ends after an hour. What takes longer runs on the host itself, and the playbook finds it again."""

import os
import pathlib
import re
import signal

import pytest

from lab.hosts import nspawn
from lab.trials.playing import Playing
from tools import TOP

UNIT = "dob-backup@full.service"
# Keeps the backup from its start until it is let go: nothing here takes an hour.
HOLD = "[Service]\nExecStartPre=/bin/sh -c 'until [ -e /run/go ]; do sleep 0.1; done'\n"
DROP_IN = f"/run/systemd/system/{UNIT}.d"


def tunnels(playing):
    """The connections of a playbook to its hosts, by the processes that carry them."""
    return {int(pid) for pid in playing.left() if pathlib.Path(f"/proc/{pid}/comm").read_text() == "ssh\n"}


@pytest.fixture
def primary(whole):
    """The primary's host, on which a backup waits."""
    name = next(filter(None, map(whole.leader, whole.regions())))
    whole.ssh(name, f"mkdir -p {DROP_IN} && printf {HOLD!r} >{DROP_IN}/hold.conf && systemctl daemon-reload")
    yield name
    whole.ssh(name, f"rm -rf {DROP_IN} /run/go && systemctl daemon-reload")


def waiting(text):
    """Whether a text has a task that is waited for longer than a tunnel lasts, or as long as a variable says."""
    return any(not seconds.isdigit() or int(seconds) > 3600 for seconds in re.findall(r"^ +async: (.+)$", text, re.M))


def test_each_playbook_that_waits_longer_than_a_tunnel_lasts_is_played_by_what_connects_again():
    texts = {str(path).partition("/tasks/")[2][:-4]: path.read_text() for path in (TOP / "ansible/roles").glob("*/tasks/**/*.yml")}
    waited = {name for name, text in texts.items() if waiting(text)}
    tasks = waited | {name for name, text in texts.items() if waited & set(re.findall(r"include_tasks: ([\w/]+)\.yml", text))}
    books = {path.name: set(re.findall(r"tasks_from: ([\w/]+)", path.read_text())) for path in (TOP / "ansible").glob("*.yml")}
    chosen = re.search(r"^    (\S+\.yml(?: \| \S+\.yml)*)\) ;;$", (TOP / "ansible/play").read_text(), re.M)[1]
    assert tasks and {name for name, included in books.items() if included & tasks} == set(chosen.split(" | "))


@pytest.mark.long
def test_a_backup_goes_on_and_is_followed_to_its_end_though_every_tunnel_ends(whole, primary, monkeypatch):
    # As `./dev play` does for this playbook.
    plain = {name: value for name, value in whole.environment().items() if not name.startswith("ANSIBLE_STRATEGY")}
    monkeypatch.setattr(whole, "environment", lambda: plain)
    playing = Playing(whole, "backup.yml", "backup_type=full").start()
    try:
        nspawn.wait_until(lambda: whole.ssh(primary, "systemctl is-active " + UNIT + " || true").strip() == "activating", "the backup", 300)
        for _ in range(2):
            ended = nspawn.wait_until(lambda: tunnels(playing), "a tunnel", 120)
            for pid in ended:
                os.kill(pid, signal.SIGKILL)
            nspawn.wait_until(lambda ended=ended: tunnels(playing) - ended, "a tunnel in the place of the one that ended", 120)
            assert not playing.is_over()
        whole.ssh(primary, "touch /run/go")
        assert playing.wait() == 0, playing.output()
        assert "UNREACHABLE" not in playing.output()
        assert whole.ssh(primary, f"systemctl show --value --property=Result {UNIT}").strip() == "success"
    finally:
        playing.kill()
