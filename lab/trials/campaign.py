"""The whole table of faults, round after round in random order, on a cluster that is up."""

import argparse
import datetime
import json
import os
import pathlib
import random
import shlex
import sys

from lab.clients.history import checker
from lab.hosts import plan
from lab.trials import faults, pairs, regions
from lab.trials.fault import FAILURES
from lab.trials.rehearsal import positive
from lab.trials.trial import Trial
from lab.trials.versions import PACKAGES

VERSIONS = "dpkg-query --show --showformat '${Package} ${Version}\\n' "


def arguments(command):
    command.add_argument("--rounds", metavar="N", type=positive, default=1, help="run each fault N times (default: %(default)s)")
    command.add_argument("--pairs", action="store_true", help="start a second fault during the first: the short list, or --count of all pairs")
    command.add_argument("--count", metavar="N", type=positive, help="N random pairs")
    command.add_argument("--seed", metavar="S", type=int, help="the seed of the order and of each choice (default: random, and printed)")
    command.add_argument("--numbers", metavar="N", type=positive, nargs="+", help="run only these numbers of the seed, to repeat them")
    command.add_argument(
        "--only", metavar="NAME", type=known, nargs="+", help=f"only these of: {', '.join(faults.TABLE)}; of pairs, any that has one"
    )
    command.add_argument("--histories", action="store_true", help="add load on few users, and check that their histories are linearizable")
    command.add_argument("--record", metavar="FILE", type=pathlib.Path, help="write all measurements to FILE, for lab/reports/fault_report.py")


def known(name):
    if name not in faults.TABLE:
        raise argparse.ArgumentTypeError(f"there is no fault '{name}': choose of {', '.join(faults.TABLE)}")
    return name


class Campaign:
    """Faults one after the other, and what is known of them so far."""

    def __init__(self, cluster, options, tell):
        self.cluster, self.options, self.tell = cluster, options, tell
        self.seed = random.randrange(10**6) if options.seed is None else options.seed
        self.order = planned(options, random.Random(self.seed))
        self.known = {
            "command": shlex.join(["./dev", "cluster", *sys.argv[1:]]),
            "seed": self.seed,
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "cores": os.cpu_count(),
            "versions": versions(cluster),
            "faults": {name: {"what": fault.what, "aim": fault.aim, "since": fault.since} for name, fault in faults.TABLE.items()},
            "trials": [],
        }

    def run(self):
        for number, names in enumerate(self.order, 1):
            if self.options.numbers and number not in self.options.numbers:
                continue
            label = " + ".join(names[:2]) + "".join(f", {moment}" for moment in names[2:])
            self.tell(f"{number} of {len(self.order)}: {label}")
            trial = self.one(names, random.Random(f"{self.seed} {number}").choice) | {"number": number, "fault": label, "names": names}
            self.known["trials"].append(trial)
            self.write()
            print(f"{number}: {summary(trial)}", flush=True)
            for promise in trial["broken"]:
                print(f"{number}: {label} BROKEN (seed {self.seed}, number {number}): {promise}", flush=True)

    def one(self, names, choice):
        """One trial. What keeps it from being made at all is a broken promise, too."""
        try:
            regions.restore(self.cluster, faults.REGION)
            return Trial(self.cluster, self.fault(names, choice), self.options.histories).run()
        except FAILURES as error:
            return {"broken": [str(error)]}

    def fault(self, names, choice):
        if len(names) > 1:
            return pairs.make(self.cluster, names, choice)
        kind = faults.TABLE[names[0]]
        kind.prepare(self.cluster)
        return kind(self.cluster, choice)

    def write(self):
        if self.options.record:
            self.options.record.write_text(json.dumps(self.known))


def planned(options, chance):
    """What is tried, in its order: names of one fault each, or of a pair and its moment."""
    if not options.pairs:
        return [(name,) for name in order(options.only or list(faults.TABLE), options.rounds, chance)]
    drawn = pairs.draw(chance, len(pairs.ALL)) if options.count else pairs.SHORT * options.rounds
    wanted = [names for names in drawn if not options.only or set(names) & set(options.only)]
    return wanted[: options.count]


def order(names, rounds, chance):
    """Each fault once a round: who ends early has tried all of them as often, or once less."""
    return [name for _ in range(rounds) for name in chance.sample(names, len(names))]


def versions(cluster):
    """What runs, by package."""
    said = cluster.ssh(plan.databases(faults.REGION)[0].name, VERSIONS + " ".join(PACKAGES))
    said += cluster.ssh(cluster.places("service", faults.REGION)[0].name, VERSIONS + "dob-api")
    return dict(line.split() for line in said.splitlines())


def summary(trial):
    if "gap" not in trial:
        return f"{trial['fault']}: not tried"
    back = "never in sync" if trial["in_sync"] is None else f"in sync after {trial['in_sync']} s"
    carried = f", {trial['uncarried']} not carried (and {trial['unread']} reads of them)" if trial["uncarried"] else ""
    writes = f"{trial['acknowledged']} writes acknowledged, {trial['writes_failed']} failed, {trial['lost']} lost{carried}"
    reads = f"{trial['reads']} reads, {trial['reads_failed']} failed"
    if trial["alerts"]:
        back += f"; alerts: {', '.join(f'{name} ({page})' for name, page in sorted(trial['alerts'].items()))}"
    back += "".join(f"; {note.splitlines()[0]}" for note in trial["notes"])
    if trial["history"]:
        back += f"; {trial['history']['operations']} operations on {trial['history']['users']} users checked"
    gap = f"write gap {trial['gap']} s{over_aim(trial)}, of a plain client {trial['bare_gap']} s"
    return f"{trial['fault']} of {trial['victim']}: {gap}, {reads}, {writes}, {back}"


def over_aim(trial):
    fault = faults.TABLE.get(trial["fault"])
    aim = fault and fault.aim
    return f" (aim: {aim} s)" if aim and trial["gap"] > aim else ""


def run(cluster, options, tell):
    campaign = Campaign(cluster, options, tell)
    if options.histories:
        tell("the program that checks histories")
        checker()
    tell(f"{len(campaign.order)} faults in the order of seed {campaign.seed}")
    try:
        campaign.run()
    except KeyboardInterrupt:
        tell("interrupted: ending the fault")
        restore(cluster)
        raise
    restore(cluster)
    broken = [trial for trial in campaign.known["trials"] if trial["broken"]]
    print(f"{len(campaign.order)} faults, {len(broken)} with a broken promise; seed {campaign.seed}")
    if broken:
        raise SystemExit(1)


def restore(cluster):
    regions.restore(cluster, faults.REGION)
