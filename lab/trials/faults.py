"""What may happen to a cluster: how each fault begins and ends, what it may cost, and what it aims at.

Tests and `./dev cluster faults` take them from here. Each may cost time, but no acknowledged write, no read and no refused write;
only what a lost region acknowledged last may not have reached the other.
"""

import random
import time

from lab.hosts import machine, nspawn, plan
from lab.hosts.cluster import Unusable
from lab.trials import regions

REGION = plan.FIRST
OTHER = next(name for name in plan.NETWORKS if name != REGION)
FILLER = f"/{machine.DATA}/filler"
# Reserves what is free without writing it, in pieces that become smaller.
FILL = f"""mkdir {FILLER} && cd {FILLER} && for size in 1073741824 67108864 1048576 4096; do
n=0; while fallocate --length $size $size.$n 2>/dev/null; do n=$((n+1)); done; done"""
# How long the primary's lock lives without being renewed.
LOCK_S = 20
ARCHIVE_FAILURES = "select failed_count from pg_stat_archiver"
ETCDCTL = (
    "etcdctl --cacert=/etc/ssl/cluster/ca.crt --cert=/etc/ssl/cluster/host.crt --key=/etc/ssl/cluster/host.key --endpoints=https://127.0.0.1:2379"
)


class Fault:
    """One fault, from a whole cluster on."""

    # How long writes may wait, in seconds, and what the time is counted from, where that is not the last answer before.
    aim, since = None, None
    # Through which region's balancer its clients come, and which region has their writes in the end.
    region = REGION
    # Whether it is over by itself, without end().
    passes = False
    # When a promotion was commanded, where one is.
    commanded = None

    def __init__(self, cluster, choice=random.choice):
        self.cluster, self.choice = cluster, choice
        self.victim = self.choose()

    @classmethod
    def prepare(cls, cluster):
        """Brings the cluster to where the fault begins."""

    def choose(self):
        """The host that it happens to: the primary's."""
        leader = nspawn.wait_until(lambda: self.cluster.leader(REGION), f"a leader in region {REGION}")
        return self.cluster.machines[leader]

    def end(self):
        """Ends the fault; also one that has begun only in part, or ended already."""

    def is_over(self):
        """Whether all is as before, by what the victim itself says: what others know of it may be old."""
        return self.cluster.is_whole(REGION) and self.state().get("state") == "running"

    def state(self):
        """What Patroni on the victim's host says of itself; empty if it says nothing."""
        try:
            return self.cluster.get(f"https://{self.victim.address}:8008/patroni")
        except (Unusable, ValueError):
            return {}

    def recover(self):
        """What an operator does besides waiting, once the fault has ended."""
        nspawn.wait_until(self.is_over, f"{self.victim.name} back in step", 300)

    def afterwards(self):
        """What is left to do when the fault has been measured."""

    def broken(self):
        """What else was promised and did not come true: sentences."""
        return []


class Replaced:
    """Of a fault after which another host leads."""

    def broken(self):
        return [f"{self.victim.name} still leads"] if self.cluster.leader(REGION) == self.victim.name else []


class HostKilled(Replaced, Fault):
    name, what, aim = "host-killed", "every process of the primary's host is killed at once, and it answers nobody", 20

    def begin(self):
        self.victim.kill()

    def end(self):
        if not self.victim.is_up():
            self.victim.boot()


class HostFrozen(Replaced, Fault):
    name, what, aim = "host-frozen", "the primary's host freezes, while its network goes on acknowledging", 27

    def begin(self):
        self.victim.freeze()

    def end(self):
        self.victim.thaw()


class ZoneCut(Replaced, Fault):
    name, what, aim = "zone-cut", "the primary's zone is cut off from everything", 27

    @classmethod
    def prepare(cls, cluster):
        # A zone without a service host: what the balancer loses with one is its own.
        if cluster.leader(REGION) != "a-db3":
            regions.play(cluster, "switchover.yml", f"target_region={REGION}", "patroni_candidate=a-db3")

    def choose(self):
        primary = super().choose()
        self.zone = f"{REGION}{primary.place.zone}"
        return primary

    def begin(self):
        self.cluster.cloud.cut(self.zone)

    def end(self):
        if self.cluster.cloud.is_cut(self.zone):
            self.cluster.cloud.heal(self.zone)


class DiskFull(Fault):
    name, what = "disk-full", "the data volume of the primary's host is full"

    def begin(self):
        if not self.victim.volume.exists():
            raise nspawn.Failed(f"{self.victim.name} has no volume of its own: './dev cluster down', then 'up' makes hosts that have one")
        self.filled = int(time.time())
        self.cluster.ssh(self.victim.name, FILL)
        # It is felt when the next block or WAL file is needed.
        nspawn.wait_until(self.is_felt, "PostgreSQL finds the disk full", 120)

    def is_felt(self):
        # journalctl fails where it finds no line: it is asked again.
        search = f"journalctl --unit patroni --since=@{self.filled} --grep='No space left on device' --lines=1 --quiet || true"
        return "No space left" in self.cluster.ssh(self.victim.name, search)

    def end(self):
        self.cluster.ssh(self.victim.name, f"rm -rf {FILLER}")


class PostgresqlKilled(Fault):
    name, what, aim, passes = "postgresql-killed", "PostgreSQL alone is killed on the primary's host", 5, True

    def begin(self):
        self.before = nspawn.wait_until(lambda: self.state().get("postmaster_start_time"), f"PostgreSQL runs on {self.victim.name}")
        self.cluster.ssh(self.victim.name, "pkill -KILL --exact postgres")

    def is_over(self):
        return super().is_over() and self.state().get("postmaster_start_time") != self.before


class EtcdKilled(Fault):
    name, what, passes = "etcd-killed", "etcd alone is killed on the primary's host", True

    def process(self):
        return self.cluster.ssh(self.victim.name, "systemctl show --property=MainPID --value etcd").strip()

    def begin(self):
        self.before = self.process()
        self.cluster.ssh(self.victim.name, "systemctl kill --signal=KILL etcd")

    def is_over(self):
        healthy = f"{ETCDCTL} endpoint health >/dev/null 2>&1 && echo healthy || echo ill"
        changed = self.process() not in ("0", self.before)
        return changed and self.cluster.ssh(self.victim.name, healthy).strip() == "healthy" and super().is_over()


class ReplicaKilled(Fault):
    name, what = "replica-killed", "every process of a replica's host is killed at once"

    def choose(self):
        primary = super().choose()
        return self.cluster.machines[self.choice(others(primary))]

    def begin(self):
        self.victim.kill()
        nspawn.wait_until(lambda: self.victim.name not in self.cluster.members(REGION), f"{self.victim.name} is missed", 60)

    def end(self):
        if not self.victim.is_up():
            self.victim.boot()


class EtcdMajorityLost(Fault):
    """Patroni's failsafe mode carries the primary through it: every member says that it follows."""

    name, what = "etcd-majority-lost", "etcd stops on two of three hosts for longer than the primary's lock lives, and starts again"

    def choose(self):
        primary = super().choose()
        self.stopped = [primary.name, self.choice(others(primary))]
        return primary

    def begin(self):
        for name in self.stopped:
            self.cluster.ssh(name, "systemctl stop etcd")
        self.alone = time.monotonic()
        nspawn.wait_until(self.is_felt, f"{self.victim.name} goes on without etcd", 90)

    def is_felt(self):
        return self.state().get("failsafe_mode_is_active") and time.monotonic() - self.alone > LOCK_S + 10

    def end(self):
        # One alone has no quorum: its start is waited for only when the other has begun.
        for name in self.stopped:
            self.cluster.ssh(name, "systemctl start --no-block etcd")


class RegionLost(Fault):
    name, what, aim, since = "region-lost", "the primary's region is cut off, the other is promoted, then the cut heals", 5, "the command"
    region, accepted = OTHER, None

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


class StoreUnreachable(Fault):
    name, what = "s3-unreachable", "the region's object store is unreachable until WAL could not be archived"

    def begin(self):
        store = f"{REGION}-s3"
        failed = int(self.cluster.sql(REGION, ARCHIVE_FAILURES)[0])
        self.cluster.cloud.cut(store)
        self.wal = self.cluster.sql(REGION, "select pg_walfile_name(pg_switch_wal())")[0]
        nspawn.wait_until(lambda: int(self.cluster.sql(REGION, ARCHIVE_FAILURES)[0]) > failed, "archiving fails", 120)

    def end(self):
        if self.cluster.cloud.is_cut(f"{REGION}-s3"):
            self.cluster.cloud.heal(f"{REGION}-s3")

    def is_over(self):
        archived = f"select coalesce(last_archived_wal, '') >= '{self.wal}' from pg_stat_archiver"
        return self.cluster.sql(REGION, archived) == ["t"]


class Switchover(Replaced, Fault):
    name, what, aim, passes = "switchover", "a planned switchover to another host of the region", 3, True

    def begin(self):
        regions.play(self.cluster, "switchover.yml", f"target_region={REGION}")


def others(primary):
    return [place.name for place in plan.databases(REGION) if place.name != primary.name]


TABLE = {
    fault.name: fault
    for fault in (
        HostKilled,
        HostFrozen,
        ZoneCut,
        DiskFull,
        PostgresqlKilled,
        EtcdKilled,
        ReplicaKilled,
        EtcdMajorityLost,
        RegionLost,
        StoreUnreachable,
        Switchover,
    )
}
