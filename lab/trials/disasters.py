"""What may happen to a whole region, and to both."""

from lab.clients.ledger import Ledger
from lab.hosts import nspawn
from lab.trials import regions
from lab.trials.fault import OTHER, REGION, Fault


class RegionLost(Fault):
    name, what, aim, since = (
        "region-lost",
        "the primary's region is cut off, the other region is promoted, then the connection returns",
        5,
        "the command",
    )
    region, accepted = OTHER, None

    def hit(self):
        return {machine.name for machine in regions.hosts_of(self.cluster, REGION)}

    def where(self):
        return f"region {REGION}"

    def begin(self):
        self.cluster.cloud.cut(REGION)
        self.commanded = regions.promote(self.cluster, OTHER)

    def end(self):
        regions.end_loss(self.cluster, REGION)

    def recover(self):
        nspawn.wait_until(lambda: regions.waits(self.cluster, REGION), f"region {REGION} waits for a decision", 120)
        self.accepted = self.cluster.leader(REGION)
        regions.rejoin(self.cluster, REGION)

    def afterwards(self):
        regions.fail_back(self.cluster, REGION)

    def broken(self):
        return [f"{self.accepted} took writes when its region was back"] if self.accepted else []


class RegionReplacedUnseen(RegionLost):
    """Its own clients write on meanwhile: what they wrote is what `rejoin` counts and gives up."""

    name, since, aim = "region-replaced-unseen", "the command", None
    what = "the primary's region is cut off but keeps running, the other is promoted by override, then the connection returns"
    reachable = False
    OVERRIDE = ("region_fence_command=false", "region_fence_override=tried")

    def hit(self):
        # None of its hosts has a fault of its own.
        return set()

    def begin(self):
        self.cluster.cloud.cut(REGION)
        self.commanded = regions.promote(self.cluster, OTHER, *self.OVERRIDE)
        with Ledger(self.cluster, f"{REGION}-lb", f"{REGION}-lb"):
            pass

    def recover(self):
        nspawn.wait_until(lambda: not self.cluster.members(REGION), f"region {REGION} stands down", 120)
        self.accepted = self.cluster.leader(REGION)
        regions.rejoin(self.cluster, REGION)


class RegionCut(Fault):
    name, what = "region-cut", "the primary's region is cut off from everything and stays the primary; its own clients continue to write"
    place, reachable = f"{REGION}-lb", False

    def hit(self):
        # None of its hosts has a fault of its own.
        return set()

    def where(self):
        return f"region {REGION}"

    def begin(self):
        self.cluster.cloud.cut(REGION)

    def end(self):
        if self.cluster.cloud.is_cut(REGION):
            self.cluster.cloud.heal(REGION)

    def is_over(self):
        return all(map(self.cluster.is_whole, self.cluster.regions())) and super().is_over()


class RegionPowerLost(Fault):
    """Also its object store and its monitoring; the balancer is the cloud's."""

    name, what, refuses = "region-power-lost", "every host of the primary's region loses its power at once, and gets it back", True
    dark = (REGION,)

    def machines(self):
        return [machine for machine in self.cluster.machines.values() if machine.place.region in self.dark and machine.place.kind != "balancer"]

    def hit(self):
        return {machine.name for machine in self.machines()}

    def where(self):
        return f"region {' and '.join(self.dark)}"

    def begin(self):
        for machine in self.machines():
            machine.kill()

    def end(self):
        regions.boot(self.machines())

    def is_over(self):
        return all(map(self.cluster.is_whole, self.cluster.regions()))


class PowerLost(RegionPowerLost):
    name, what = "power-lost", "every host of both regions loses its power at once, and gets it back"
    dark = (REGION, OTHER)
