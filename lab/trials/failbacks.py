"""Planned moves of the primary between the regions under load, one after the other; some are killed at a random step and run again."""

import os
import random
import signal
import statistics
import subprocess

from lab.clients.ledger import Ledger
from lab.hosts import nspawn
from lab.hosts.cluster import Unusable
from lab.trials import regions
from lab.trials.rehearsal import positive

# How many tasks of the playbook may pass before it is killed, and how often it is run again.
STEPS, TRIES = 45, 3


def arguments(command):
    command.add_argument("--count", metavar="N", type=positive, default=60, help="make N moves (default: %(default)s)")
    command.add_argument("--kill-every", metavar="N", type=positive, default=10, help="kill one move in N (default: %(default)s)")
    command.add_argument("--seed", metavar="S", type=int, help="the seed of the steps (default: random, and printed)")


def killed(cluster, name, steps, *settings):
    """Runs a playbook, kills it with all its processes when so many tasks have begun, and returns the last one."""
    command = cluster.playbook_command(name, *(f"--extra-vars={setting}" for setting in settings))
    process = subprocess.Popen(
        [*cluster.cloud.at_operator(), *map(str, command)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=cluster.environment(), start_new_session=True,
    )  # fmt: skip
    last = "nothing"
    with process:
        for line in process.stdout:
            if line.startswith("TASK ["):
                last, steps = line.split("]")[0].removeprefix("TASK ["), steps - 1
            if steps < 0:
                os.killpg(process.pid, signal.SIGKILL)
                break
    return last


class Failbacks:
    def __init__(self, cluster, options, tell):
        self.cluster, self.options, self.tell = cluster, options, tell
        self.seed = random.randrange(10**6) if options.seed is None else options.seed
        self.random = random.Random(self.seed)
        self.gaps, self.broken = [], []

    def run(self):
        for number in range(1, self.options.count + 1):
            kill = number % self.options.kill_every == 0
            try:
                self.move(number, kill)
            except (Unusable, nspawn.Failed, TimeoutError, subprocess.SubprocessError, OSError) as error:
                self.break_promise(number, str(error))
                break
        middle = f"median gap {statistics.median(self.gaps):.1f} s, longest {max(self.gaps):.1f} s" if self.gaps else "no gap measured"
        print(f"{number} failbacks, {len(self.broken)} with a broken promise; {middle}; seed {self.seed}")

    def move(self, number, kill):
        source = next(filter(self.cluster.leader, self.cluster.regions()))
        target = next(name for name in self.cluster.regions() if name != source)
        with Ledger(self.cluster, f"{target}-lb") as ledger:
            how = self.interrupted(target) if kill else self.play(target)
            ledger.goes_on(120)
        print(f"{number}: {source} to {target}, {how}; {ledger.figures()}", flush=True)
        if not kill:
            self.gaps.append(ledger.gap())
        if lost := ledger.lost(target):
            self.break_promise(number, f"{len(lost)} acknowledged writes lost")
        if not kill and ledger.failed("PUT"):
            self.break_promise(number, f"{len(ledger.failed('PUT'))} writes failed")
        for region in self.cluster.regions():
            self.cluster.wait_until_whole(region)
        self.look_for_slots(number, source)

    def play(self, target):
        regions.play(self.cluster, "failback.yml", f"target_region={target}")
        return "as planned"

    def interrupted(self, target):
        """Kills the playbook at a random step, and runs it again until it ends well."""
        step = killed(self.cluster, "failback.yml", self.random.randrange(STEPS), f"target_region={target}")
        for again in range(1, TRIES + 1):
            done = regions.attempt(self.cluster, "failback.yml", f"target_region={target}")
            if done.returncode != 0:
                refused = next((line.strip() for line in done.stdout.splitlines() if line.startswith(("fatal:", "[ERROR]"))), "no reason was printed")
                print(f"  killed at '{step}', then: {refused[:300]}", flush=True)
            else:
                return f"killed at '{step}', done after {again} more"
        raise nspawn.Failed(f"killed at '{step}', and failed {TRIES} times after that:\n{done.stdout}")

    def look_for_slots(self, number, source):
        """A slot of the former primary that is left behind keeps WAL for ever."""
        leader = next(name for name, member in self.cluster.members(source).items() if member["role"] == "standby_leader")
        slots = self.cluster.ssh(leader, 'runuser -u postgres -- psql -XAtc "select slot_name from pg_replication_slots" ').split()
        if "other_region" in slots:
            self.break_promise(number, f"{leader} keeps a slot for a region that does not follow it")

    def break_promise(self, number, what):
        self.broken.append(number)
        print(f"{number}: BROKEN (seed {self.seed}): {what}", flush=True)


def run(cluster, options, tell):
    failbacks = Failbacks(cluster, options, tell)
    tell(f"{options.count} failbacks, every {options.kill_every}th killed at a step that seed {failbacks.seed} chooses")
    failbacks.run()
    if failbacks.broken:
        raise SystemExit(1)
