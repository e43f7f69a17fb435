"""What every fault has in common: where it happens, how it begins and ends, what its clients may see."""

import random
import subprocess

from lab.hosts import nspawn, plan
from lab.hosts.cluster import Unusable

REGION = plan.FIRST
OTHER = next(name for name in plan.NETWORKS if name != REGION)
ETCDCTL = (
    "etcdctl --cacert=/etc/ssl/cluster/ca.crt --cert=/etc/ssl/cluster/host.crt --key=/etc/ssl/cluster/host.key --endpoints=https://127.0.0.1:2379"
)
# How a step of a trial may fail.
FAILURES = (Unusable, nspawn.Failed, TimeoutError, subprocess.SubprocessError, OSError)


class Fault:
    """One fault, from a whole cluster on."""

    # How long writes may wait, in seconds, and what the time is counted from, where that is not the last answer before.
    aim, since = None, None
    # Through which region's balancer its clients come, and which region has their writes in the end.
    region = REGION
    # The host at which the clients are; none is the operator's place.
    place = None
    # Whether it is over by itself, without end().
    passes = False
    # When a promotion was commanded, where one is.
    commanded = None
    # Whether requests may be refused while it lasts.
    refuses = False
    # Whether the operator's commands reach the region while it lasts.
    reachable = True

    def __init__(self, cluster, choice=random.choice, home=REGION, spared=()):
        """In the region `home`; the hosts in `spared` are those to which something else has happened already."""
        self.cluster, self.choice, self.home, self.spared = cluster, choice, home, spared
        self.victim = self.choose()

    @classmethod
    def prepare(cls, cluster):
        """Brings the cluster to where the fault begins."""

    def choose(self):
        """The host that it happens to: the primary's, or another one where the primary's has its fault."""
        leader = nspawn.wait_until(lambda: self.cluster.leader(self.home), f"a leader in region {self.home}", 60)
        return self.cluster.machines[leader if leader not in self.spared else self.other(leader)]

    def other(self, name):
        """Another database host of the region, without a fault."""
        left = [place.name for place in plan.databases(self.home) if place.name != name and place.name not in self.spared]
        if not left:
            raise nspawn.Failed(f"every host of region {self.home} has its fault already")
        return self.choice(left)

    def hit(self):
        """The names of the hosts that have the fault while it lasts: another one takes others."""
        return set() if self.passes else {self.victim.name}

    def where(self):
        """What it happens to, in a word."""
        return self.victim.name

    def tell(self, host, command):
        """The output of a command on a host; one that has just booted may not listen yet."""
        return nspawn.wait_until(lambda: self._told(host, command), f"{host} takes a command", 90)[0]

    def _told(self, host, command):
        done = self.cluster.operator(*self.cluster.ssh_command(host, command), capture_output=True, timeout=60)
        # What ssh itself could not do.
        return None if done.returncode == 255 else [done.stdout]

    def attend(self, trial):
        """Learns whose clients it happens to."""

    def launch(self):
        """As begin(), but returns while what takes its time is under way."""
        self.begin()

    def end(self):
        """Ends the fault; also one that has begun only in part, or ended already."""

    def is_over(self):
        """Whether all is as before, by what the victim itself says: what others know of it may be old."""
        return self.cluster.is_whole(self.home) and self.state().get("state") == "running"

    def state(self):
        """What Patroni on the host reports about itself; empty if it does not answer."""
        try:
            return self.cluster.get(f"https://{self.victim.address}:8008/patroni")
        except (Unusable, ValueError):
            return {}

    def recover(self):
        """What an operator does besides waiting, once the fault has ended."""
        nspawn.wait_until(self.is_over, f"{self.victim.name} back in sync", 300)

    def afterwards(self):
        """What is left to do when the fault has been measured."""

    def broken(self):
        """What else was promised and did not come true: sentences."""
        return []


class Replica(Fault):
    """A fault of a host that does not lead."""

    def choose(self):
        return self.cluster.machines[self.other(super().choose().name)]


class Replaced:
    """Of a fault after which another host leads."""

    def broken(self):
        return [f"{self.victim.name} still leads"] if self.cluster.leader(self.home) == self.victim.name else []
