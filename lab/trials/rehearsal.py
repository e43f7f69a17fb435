"""Roll-outs one after the other under load, and what they cost its clients."""

import argparse
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

from lab.hosts import nspawn, plan
from lab.hosts.balancer import Balancer, Watch
from lab.hosts.cluster import Cluster, Run, Unusable
from lab.trials.roll_out import RolledBack, RollOut
from lab.trials.versions import next_version
from tools import TOP

LOAD = "lab.clients.load"


def arguments(command):
    what = command.add_mutually_exclusive_group()
    what.add_argument("--version", help="roll out this version of the cluster's apt repository")
    what.add_argument("--deb", metavar="FILE", type=pathlib.Path, help="roll out this package")
    what.add_argument("--broken", action="store_true", help="roll out a version that never becomes healthy; it must be rolled back")
    command.add_argument("--region", choices=plan.NETWORKS, default="a", help="the region (default: %(default)s)")
    command.add_argument("--rounds", metavar="N", type=positive, default=1, help="make N roll-outs, each of a new version (default: %(default)s)")
    command.add_argument("--rate", metavar="N", type=positive, default=1000, help="requests per second during it (default: %(default)s)")
    command.add_argument("--patience", metavar="SECONDS", type=positive, default=120, help="time until a host must be healthy (default: %(default)s)")
    command.add_argument(
        "--warm-up", metavar="SECONDS", type=positive, default=10, help="time during which old and new hosts both serve (default: %(default)s)"
    )
    command.add_argument("--record", metavar="FILE", type=pathlib.Path, help="write all measurements to FILE, for lab/reports/timeline.py")


def positive(text):
    number = int(text)
    if number < 1:
        raise ValueError
    return number


class Load:
    """Requests at a fixed rate, from entry to exit. They come from a process of their own at the operator's place."""

    def __init__(self, cluster, region, rate):
        self.cluster, self.region, self.rate = cluster, region, rate
        self.seconds, self.saved = [], None

    def __enter__(self):
        address = self.cluster.machines[f"{self.region}-lb"].address
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = self.cluster.run.spawn(
            sys.executable, "-Bm", LOAD, address, self.rate, namespace=self.cluster.cloud.operator, cwd=TOP, **pipes
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self.goes_on()
        return self

    def _read(self):
        for line in self.process.stdout:
            second = json.loads(line)
            if "at" in second:
                self.seconds.append(second)
            else:
                self.saved = second

    def goes_on(self, deadline=60):
        """Waits for some seconds' further answers."""
        now = time.monotonic()
        enough = self.rate * 2
        nspawn.wait_until(lambda: sum(second["answered"] for second in self.since(now)) > enough, "answers", deadline)

    def since(self, begin):
        return [second for second in list(self.seconds) if second["at"] > begin]

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(90)
        self.reader.join(10)

    def lost(self):
        """How many acknowledged writes the database does not have."""
        found = self.cluster.sql(self.region, f"select count(*) from users where username like '{self.saved['prefix']}%'", "dob")
        return self.saved["acknowledged"] - int(found[0])


class Rehearsal:
    """Roll-outs of a region under one load, each with what it cost."""

    def __init__(self, cluster, region, rate, tell):
        self.cluster, self.region, self.tell = cluster, region, tell
        self.load, self.balancer, self.watch = Load(cluster, region, rate), Balancer(cluster, region), Watch(cluster, region)
        self.rounds = []

    def __enter__(self):
        with contextlib.ExitStack() as undo:
            for part in (self.balancer, self.watch, self.load):
                undo.enter_context(part)
            self.end = undo.pop_all()
        return self

    def __exit__(self, *reason):
        self.end.__exit__(*reason)

    def roll_out(self, version, patience=120, warm_up=10):
        """One round; returns why it was rolled back, if it was."""
        begun, reason = time.monotonic(), None
        roll_out = RollOut(self.cluster, self.region, self.balancer, self.tell)
        try:
            roll_out.run(version, patience, warm_up)
        except RolledBack as back:
            reason = str(back)
        took = time.monotonic() - begun
        self.load.goes_on()
        seconds = self.load.since(begun)
        self.rounds.append(
            {
                "version": version,
                "begun": begun,
                "took": took,
                "rolled back": reason,
                "events": roll_out.events,
                "answered": sum(second["answered"] for second in seconds),
                "failures": [failure for second in seconds for failure in second["failures"]],
                "slowest": max(second["slowest"] for second in seconds),
            }
        )
        return reason

    def failures(self):
        return [failure for second in self.load.seconds for failure in second["failures"]]

    def record(self, file):
        """Writes all that was measured."""
        known = {"rounds": self.rounds, "seconds": self.load.seconds, "samples": self.watch.samples}
        file.write_text(json.dumps(known))


def wanted(cluster, options):
    """The version that a round rolls out."""
    if options.deb:
        if not options.deb.exists():
            raise Unusable(f"there is no package {options.deb}: './dev deb' builds one")
        cluster.publish(options.deb)
        return nspawn.run("dpkg-deb", "--field", options.deb, "Version").stdout.strip()
    return options.version or next_version(cluster, broken=options.broken)


def rehearse(cluster, options, tell):
    tell(f"{options.rate} requests a second through {options.region}-lb")
    rehearsal = Rehearsal(cluster, options.region, options.rate, tell)
    with rehearsal:
        for number in range(options.rounds):
            version = wanted(cluster, options)
            tell(f"roll-out {number + 1} of {options.rounds}: {version}")
            reason = rehearsal.roll_out(version, options.patience, options.warm_up)
            print(summary(number + 1, rehearsal.rounds[-1]), flush=True)
            if reason and not options.broken:
                break
    if options.record:
        rehearsal.record(options.record)
    failures, lost = rehearsal.failures(), rehearsal.load.lost()
    answered = sum(second["answered"] for second in rehearsal.load.seconds)
    print(f"{answered} requests, {len(failures)} failed; {rehearsal.load.saved['acknowledged']} writes acknowledged, {lost} lost")
    for failure in failures[:10]:
        print(f"  {failure}")
    if failures or lost or bool(reason) != options.broken:
        raise SystemExit(1)


def summary(number, round):
    what = round["rolled back"] or f"{round['version']} serves"
    slowest = f"slowest {round['slowest']:.0f} ms"
    return f"{number}: {what}; {round['took']:.0f} s, {round['answered']} requests, {len(round['failures'])} failed, {slowest}"


def main():
    """Rolls out by a process of its own, on the cluster whose folder CLUSTER_RUN names."""
    # As after Ctrl-C: the new hosts are taken away.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    parser = argparse.ArgumentParser(description=__doc__)
    arguments(parser)
    options = parser.parse_args()
    cluster = Cluster(Run(pathlib.Path(os.environ["CLUSTER_RUN"])), pathlib.Path(sys.prefix))
    rehearse(cluster, options, lambda text: print(f"cluster: {text}", file=sys.stderr, flush=True))


if __name__ == "__main__":
    main()
