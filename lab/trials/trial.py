"""One fault under load, from a whole cluster to a whole cluster, and what it cost."""

import collections
import contextlib
import datetime
import statistics
import time

from lab.clients import prometheus
from lab.clients.history import HistoryLedger
from lab.clients.ledger import Ledger, LibpqLedger
from lab.hosts import nspawn, plan
from lab.trials import promises
from lab.trials.fault import FAILURES
from lab.trials.roll_out import uninterrupted

# How many seconds before a fault, or a roll-out, belong to what is recorded and drawn.
BEFORE = 5


class Trial:
    """One fault and what its clients saw. Whatever fails is written down as a broken promise; the fault is ended in any case."""

    def __init__(self, cluster, fault, histories=False):
        self.cluster, self.fault = cluster, fault
        self.ledger = Ledger(cluster, f"{fault.region}-lb", fault.place)
        self.bare = LibpqLedger(cluster, fault.place)
        self.history = HistoryLedger(cluster, f"{fault.region}-lb", fault.place) if histories else None
        self.leaders = [[-BEFORE, cluster.leader(plan.FIRST)]]
        self.marks, self.broken = {}, []
        self.clock = time.time() - time.monotonic()
        fault.attend(self)

    def run(self):
        """The whole course; returns what is recorded."""
        with self.ledger, self.history or contextlib.nullcontext(), self.bare:
            try:
                self.mark("begins")
                self.note(self.fault.begin)
                if not self.fault.refuses:
                    self.note(self.ledger.goes_on)
            finally:
                self.mark("ends")
                # After Ctrl-C, too.
                with uninterrupted():
                    self.note(self.fault.end)
            if self.note(self.fault.recover):
                self.mark("in sync")
            self.note(self.ledger.goes_on)
        record = self.record()
        self.note(self.fault.afterwards)
        self.note(self.compare)
        return record

    def compare(self):
        """Judges the whole cluster, when no client writes any more."""
        self.broken += promises.broken(self.cluster)

    def mark(self, what):
        self.marks[what] = time.monotonic()

    def note(self, step):
        """Runs a step and records a failure; the trial continues."""
        try:
            step()
        except FAILURES as error:
            self.broken.append(f"{step.__name__}: {error}".strip())
            return False
        return True

    def record(self):
        lost, uncarried = self.losses()
        # What did not get there cannot be read there.
        unread = [request for request in self.ledger.failed("GET") if request[4] in uncarried and request[3] == 404]
        failed = {"reads": len(self.failed("GET")) - len(unread), "writes": len(self.failed("PUT"))}
        for kind, count in failed.items():
            if count and not self.fault.refuses:
                self.broken.append(f"{count} {kind} failed")
        if lost:
            self.broken.append(f"{len(lost)} acknowledged writes lost")
        self.note(self.judge)
        self.note(self.look_back)
        begun = self.marks["begins"]
        over = self.marks["begins" if self.fault.passes else "ends"]
        return {
            "fault": self.fault.name,
            "begun": datetime.datetime.fromtimestamp(begun + self.clock, datetime.UTC).isoformat(timespec="seconds"),
            "victim": self.fault.where(),
            # How long writes waited, from the command that ended it where there is one.
            "gap": round(self.ledger.gap(self.fault.commanded), 2),
            # The same for a client that has only libpq.
            "bare_gap": round(self.bare.gap(self.fault.commanded), 2),
            "reads": sum(request[0] == "GET" for request in self.ledger.requests),
            "reads_failed": failed["reads"],
            "acknowledged": len(self.ledger.acknowledgements()),
            "writes_failed": failed["writes"],
            "lost": len(lost),
            "uncarried": len(uncarried),
            "unread": len(unread),
            "in_sync": round(self.marks["in sync"] - over, 1) if "in sync" in self.marks else None,
            "events": [[round(at - begun, 2), what] for what, at in self.marks.items()],
            "leaders": self.leaders,
            "seconds": seconds(self.ledger.requests, begun),
            "alerts": self.alerts(),
            "notes": getattr(self.fault, "notes", []),
            "history": self.history and self.history.checked,
            "broken": self.broken,
        }

    def alerts(self):
        """What fired since the fault began, as any region's monitoring knows, and to which page each alert leads."""
        found = {}
        for region in self.cluster.regions():
            with contextlib.suppress(*FAILURES, ValueError):
                found |= prometheus.alerts(self.cluster, region, time.monotonic() - self.marks["begins"])
        return found

    def judge(self):
        self.broken += self.fault.broken()
        if self.history:
            self.broken += self.history.check(self.fault.region, self.fault.commanded or 0)

    def failed(self, kind):
        return self.ledger.failed(kind) + (self.history.failed(kind) if self.history else [])

    def losses(self):
        """The users whose acknowledged writes are lost, and those whose last ones had not been carried from a lost region."""
        missing = set(self.ledger.lost(self.fault.region))
        uncarried = missing & set(self.ledger.acknowledged(until=self.fault.commanded or 0))
        return missing - uncarried, uncarried

    def look_back(self):
        """Learns from Patroni who was promoted meanwhile."""
        leader = nspawn.wait_until(lambda: self.cluster.leader(self.fault.region), f"a leader in region {self.fault.region}")
        address = self.cluster.machines[leader].address
        for _, _, _, *promoted in self.cluster.get(f"https://{address}:8008/history"):
            if len(promoted) == 2:
                at = datetime.datetime.fromisoformat(promoted[0]).timestamp() - self.clock - self.marks["begins"]
                if at > 0:
                    self.leaders.append([round(at, 2), promoted[1]])


def seconds(requests, begun):
    """Each second from the fault on: writes and reads answered, requests failed, the median and the slowest answer in milliseconds."""
    by_second = collections.defaultdict(list)
    for kind, begin, end, status, *_ in requests:
        by_second[int((end - begun) // 1)].append((kind, (end - begin) * 1000, status in (200, 204)))
    rows = []
    for second in sorted(second for second in by_second if second >= -BEFORE):
        answers = by_second[second]
        took = [latency for _, latency, _ in answers]
        good = collections.Counter(kind for kind, _, answered in answers if answered)
        failed = sum(not answered for *_, answered in answers)
        rows.append([second, good["PUT"], good["GET"], failed, round(statistics.median(took), 1), round(max(took), 1)])
    return rows
