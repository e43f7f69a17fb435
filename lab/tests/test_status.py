"""What an operator sees and leaves behind: dead hosts hold nothing up, and the end of a run ends everything."""

import argparse
import subprocess
import threading

from lab.hosts import nspawn
from lab.hosts.cluster import Unusable
from lab.hosts.plan import PLACES
from lab.reports import status, watch

DAEMON = "sleep 1000 & echo started; wait"


class Dead:
    """A cluster of which no host answers, and each question waits until all questions of its kind are asked."""

    def __init__(self):
        self.members = threading.Barrier(6, timeout=10)
        self.health = threading.Barrier(8, timeout=10)
        self.cloud = argparse.Namespace(cuts=set)
        self.machines = {name: argparse.Namespace(name=name, place=place, is_up=lambda: False) for name, place in PLACES.items()}

    def regions(self):
        return ["a", "b"]

    def places(self, kind, region):
        return [place for place in PLACES.values() if (place.kind, place.region) == (kind, region)]

    def get(self, url):
        self.members.wait()
        raise Unusable("no answer")

    def http_status(self, url, *options):
        self.health.wait()
        return "000"


def test_status_asks_all_hosts_side_by_side(monkeypatch):
    monkeypatch.setattr(watch, "lines", lambda cluster, region: [f"{region}-monitor does not answer"])
    shown = status.show(Dead()).splitlines()
    assert sum(" down " in line for line in shown) == len(PLACES)
    assert "backups in region a: nobody answers" in shown
    assert "b-monitor does not answer" in shown


def test_the_end_of_a_run_ends_the_daemons_that_were_started_at_the_operators_place():
    with nspawn.Run() as run:
        daemon = subprocess.Popen([*run.joining("operator"), "setsid", "sh", "-c", DAEMON], stdout=subprocess.PIPE, text=True)
        assert daemon.stdout.readline() == "started\n"
        processes = {pid for group in run.groups("operator") for pid in (group / "cgroup.procs").read_text().split()}
        assert len(processes) >= 2
    # The pipe ends when the last process that has it is gone.
    assert daemon.communicate(timeout=30)[0] == ""
    assert daemon.returncode != 0
