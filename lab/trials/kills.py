"""Playbooks that are killed at a random task under load, and run again as their pages say."""

import argparse
import contextlib
import itertools
import json
import pathlib
import random
import time

from lab.clients.ledger import Ledger
from lab.hosts import nspawn
from lab.trials import playbooks, promises, regions
from lab.trials.fault import FAILURES
from lab.trials.playing import MANNERS, Playing
from lab.trials.rehearsal import positive

# ssh keeps a connection for a minute after its last use.
LEFT_S = 90
SETTLE_S = 60


def arguments(command):
    command.add_argument("playbook", metavar="PLAYBOOK", type=known, help=f"one of: {', '.join(playbooks.TABLE)}")
    command.add_argument("--count", metavar="N", type=positive, default=1, help="kill it N times (default: %(default)s)")
    command.add_argument("--seed", metavar="S", type=int, help="the seed of the task, the moment and the way (default: random, and printed)")
    command.add_argument("--record", metavar="FILE", type=pathlib.Path, help="write the results to FILE")


def known(name):
    name = name.removesuffix(".yml")
    if name not in playbooks.TABLE:
        raise argparse.ArgumentTypeError(f"there is no playbook '{name}' to kill: choose one of {', '.join(playbooks.TABLE)}")
    return name


class Kills:
    """One playbook, killed again and again; each time from its own beginning."""

    def __init__(self, cluster, options, tell):
        self.cluster, self.options, self.tell = cluster, options, tell
        self.seed = random.randrange(10**6) if options.seed is None else options.seed
        self.subject = playbooks.TABLE[options.playbook](cluster, random.Random(self.seed).choice)
        self.trials = []

    def run(self):
        self.tell(f"{self.subject.name}: a first run shows its tasks; seed {self.seed}")
        tasks = self.length()
        for number in range(1, self.options.count + 1):
            # All that chance decides, before anything happens: a seed repeats it.
            chance = random.Random(f"{self.seed} {number}")
            task, part, manner = chance.randrange(1, tasks), chance.random(), chance.choice(list(MANNERS))
            trial = {"number": number, "playbook": self.subject.name, **self.one(task, part, manner)}
            self.trials.append(trial)
            if self.options.record:
                self.options.record.write_text(json.dumps({"seed": self.seed, "tasks": tasks, "trials": self.trials}))
            print(f"{number}: {summary(trial)}", flush=True)
            for promise in trial["broken"]:
                print(f"{number}: {self.subject.name} BROKEN (seed {self.seed}, number {number}): {promise}", flush=True)

    def length(self):
        """How many tasks a whole run has, and how long each takes: the run itself."""
        regions.restore(self.cluster, playbooks.HOME)
        self.subject.prepare()
        self.subject.begin()
        playing = self.play([])
        if playing.wait() != 0:
            raise nspawn.Failed(f"{self.subject.name} fails without being killed: {playing.reason()}")
        begun = [at for at, _ in playing.tasks]
        self.took = [after - before for before, after in itertools.pairwise(begun)] + [0.0]
        self.subject.afterwards()
        return len(begun)

    def one(self, number, part, manner):
        """One kill, within a task after a part of its time; and the second run."""
        runs = []
        trial = {"task": "", "manner": manner, "again": None, "lost": 0, "writes_failed": 0, "broken": []}
        try:
            regions.restore(self.cluster, playbooks.HOME)
            self.subject.prepare()
            with Ledger(self.cluster, f"{self.subject.region}-lb") as ledger:
                self.subject.begin()
                begun = time.monotonic()
                playing = self.play(runs)
                if playing.reach(number):
                    playing.linger(part * self.took[number])
                trial["task"] = f"{len(playing.tasks)}: {playing.tasks[-1][1]}"
                MANNERS[manner](playing)
                again = self.play(runs, *self.subject.again())
                if again.wait() != 0:
                    # It may refuse what is still on its way, as an operator reads; then it is run when that has arrived.
                    trial["refused"] = again.reason()
                    self.settle()
                    again = self.play(runs, *self.subject.again())
                trial |= {"again": again.wait(), "with": again.name}
                if trial["again"] != 0:
                    trial["broken"].append(f"a further run failed: {again.reason()}")
                ledger.goes_on()
            primary = nspawn.wait_until(lambda: next(filter(self.cluster.leader, self.cluster.regions()), None), "a region that takes writes", 60)
            lost = set(ledger.lost(primary))
            # What a lost region acknowledged last may not have been carried.
            uncarried = lost & set(ledger.acknowledged(until=begun)) if self.subject.refuses else set()
            trial |= {"lost": len(lost - uncarried), "uncarried": len(uncarried)}
            trial |= {"writes_failed": len(ledger.failed("PUT")), "gap": round(ledger.gap(), 1)}
            if ledger.failed("PUT") and not self.subject.refuses:
                trial["broken"].append(f"{trial['writes_failed']} writes failed")
            if trial["lost"]:
                trial["broken"].append(f"{trial['lost']} acknowledged writes lost")
            trial["broken"] += promises.broken(self.cluster)
            nspawn.wait_until(lambda: not playing.left(), "the daemons of the killed run end by themselves", LEFT_S)
            self.subject.afterwards()
        except FAILURES as error:
            trial["broken"].append(str(error))
        finally:
            for playing in runs:
                playing.kill()
        return trial

    def settle(self):
        """Waits until every member that runs is in its place; what only a further run can repair does not hold it up."""
        with contextlib.suppress(TimeoutError):
            for region in self.cluster.regions():
                self.cluster.wait_until_whole(region, SETTLE_S)

    def play(self, runs, file=None, settings=()):
        """Starts the playbook, or another one, and notes the run."""
        file, settings = (file, settings) if file else (self.subject.file, self.subject.settings)
        runs.append(Playing(self.cluster, file, *settings).start())
        return runs[-1]


def summary(trial):
    if trial["again"] is None:
        return f"{trial['playbook']}: not tried"
    second = "ended well" if trial["again"] == 0 else "FAILED"
    if "refused" in trial:
        second = f"was refused ({trial['refused']}), the third {second}"
    cost = f"write gap {trial['gap']} s, {trial['writes_failed']} writes failed, {trial['lost']} lost" if "gap" in trial else "nothing measured"
    return f"{trial['playbook']} {trial['manner']} at task {trial['task']}; the second run ({trial['with']}) {second}; {cost}"


def run(cluster, options, tell):
    kills = Kills(cluster, options, tell)
    try:
        kills.run()
    finally:
        tell("ending what is left of it")
        regions.restore(cluster, playbooks.HOME)
    broken = [trial for trial in kills.trials if trial["broken"]]
    print(f"{len(kills.trials)} kills of {kills.subject.name}, {len(broken)} with a broken promise; seed {kills.seed}")
    if broken:
        raise SystemExit(1)
