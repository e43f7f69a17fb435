"""Two faults, of which the second begins while the first or its recovery is under way."""

from lab.trials.fault import FAILURES, OTHER, REGION, Fault

AT_ONCE, LATER, RECOVERY = "at once", "when writes go through again", "when the first has just ended"
MOMENTS = (AT_ONCE, LATER, RECOVERY)
# How long both wait for writes to go through: longer than a failover takes. They may not, as two hosts of three may be gone.
WRITES_S = 45


class Pair(Fault):
    """Its clients may be refused. What it promises is the end: `promises.py` judges that."""

    refuses = True
    second, trial = None, None

    def __init__(self, cluster, kinds, moment, choice):
        self.kinds, self.moment = kinds, moment
        self.first = kinds[0](cluster, choice)
        self.region = OTHER if any(kind.region == OTHER for kind in kinds) else REGION
        self.place = next((kind.place for kind in kinds if kind.place), None)
        self.notes = []
        super().__init__(cluster, choice)

    @property
    def name(self):
        return f"{self.kinds[0].name} + {self.kinds[1].name}, {self.moment}"

    def choose(self):
        return self.first.victim

    def attend(self, trial):
        self.trial = trial

    @property
    def commanded(self):
        return min((fault.commanded for fault in self.faults() if fault.commanded), default=None)

    def faults(self):
        """Those that were begun, the last one first: so they are ended."""
        return [fault for fault in (self.second, self.first) if fault]

    def begin(self):
        # Behind a cut nobody can be asked who leads.
        second = None if self.first.reachable else self.make_second(REGION)
        self.first.launch() if self.moment == AT_ONCE else self.first.begin()
        if self.moment != AT_ONCE:
            self.wait_for_writes()
        if self.moment == RECOVERY:
            self.first.end()
        self.trial.mark("the second begins")
        try:
            self.second = second or self.make_second(self.primary_region())
            self.second.launch()
        except FAILURES as error:
            # The first may leave nothing to hit, or refuse what an operator would do.
            self.notes.append(f"{self.kinds[1].name} did not begin: {error}")
        self.wait_for_writes()

    def make_second(self, home):
        return self.kinds[1](self.cluster, self.choice, home, () if self.moment == RECOVERY else self.first.hit())

    def where(self):
        return ", then ".join(fault.where() for fault in reversed(self.faults()))

    def primary_region(self):
        """Where the second fault happens: in the region that was promoted, where one was."""
        return OTHER if self.first.commanded else REGION

    def wait_for_writes(self):
        try:
            self.trial.ledger.goes_on(WRITES_S)
        except TimeoutError:
            self.notes.append(f"no write went through within {WRITES_S} s of both")

    def end(self):
        each(fault.end for fault in self.faults())

    def recover(self):
        each(fault.recover for fault in sorted(self.faults(), key=self.turn))

    def turn(self, fault):
        """When a fault's turn to recover comes: a lost region follows another that is whole, and only then are its hosts back."""
        if fault.commanded or not self.commanded:
            return 1
        return 0 if fault.home == OTHER else 2

    def afterwards(self):
        each(fault.afterwards for fault in self.faults())


def each(steps):
    """Takes every step, also after one that failed, and then fails as the first that did."""
    failures = []
    for step in steps:
        try:
            step()
        except FAILURES as failure:
            failures.append(failure)
    if failures:
        raise failures[0]
