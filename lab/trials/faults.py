"""The faults of a cluster: how each starts and ends, what it may cost, and its target.

Tests and `./dev cluster faults` use this table. A fault may cost time, but no acknowledged write is lost and no read or write fails.
The exception: the last acknowledged writes of a lost region may not have reached the other region.
"""

import time

from lab.hosts import machine, nspawn
from lab.trials import regions
from lab.trials.damage import DamagedPage, EtcdDataLost
from lab.trials.disasters import PowerLost, RegionCut, RegionLost, RegionPowerLost, RegionReplacedUnseen
from lab.trials.fault import ETCDCTL, REGION, Fault, Replaced, Replica
from lab.trials.operations import Backup, PlaybookKilled, RollOut, Switchover

FILLER = f"/{machine.DATA}/filler"
# Reserves what is free without writing it, in pieces that become smaller.
FILL = f"""mkdir {FILLER} && cd {FILLER} && for size in 1073741824 67108864 1048576 4096; do
n=0; while fallocate --length $size $size.$n 2>/dev/null; do n=$((n+1)); done; done"""
# How long the primary's lock lives without being renewed.
LOCK_S = 20
ARCHIVE_FAILURES = "select failed_count from pg_stat_archiver"


class HostKilled(Replaced, Fault):
    name, what, aim = "host-killed", "every process of the primary's host is killed at once, and the host no longer answers", 20

    def begin(self):
        self.victim.kill()

    def end(self):
        if not self.victim.is_up():
            self.victim.boot()


class HostFrozen(Replaced, Fault):
    name, what, aim = "host-frozen", "the primary's host freezes, but its kernel still acknowledges packets", 27

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
        self.zone = f"{self.home}{primary.place.zone}"
        return primary

    def hit(self):
        return {machine.name for machine in self.cluster.machines.values() if f"{machine.place.region}{machine.place.zone}" == self.zone}

    def where(self):
        return f"zone {self.zone}"

    def begin(self):
        self.cluster.cloud.cut(self.zone)

    def end(self):
        if self.cluster.cloud.is_cut(self.zone):
            self.cluster.cloud.heal(self.zone)


class ServiceZoneCut(ZoneCut):
    """Until the balancer has noticed, it gives requests to the service host that is cut off."""

    name, what, aim, refuses = "service-zone-cut", "a zone with a service host in it is cut off from everything", None, True

    @classmethod
    def prepare(cls, cluster):
        pass

    def choose(self):
        service = self.choice(self.cluster.places("service", self.home))
        self.zone = f"{self.home}{service.zone}"
        return self.cluster.machines[f"{self.home}-db{service.zone}"]

    def broken(self):
        return []


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
        self.tell(self.victim.name, f"rm -rf {FILLER}")


class PostgresqlKilled(Fault):
    name, what, aim, passes = "postgresql-killed", "PostgreSQL alone is killed on the primary's host", 5, True
    before = None

    def begin(self):
        self.before = nspawn.wait_until(lambda: self.state().get("postmaster_start_time"), f"PostgreSQL runs on {self.victim.name}")
        self.cluster.ssh(self.victim.name, "pkill -KILL --exact postgres")

    def is_over(self):
        return super().is_over() and self.state().get("postmaster_start_time") != self.before


class EtcdKilled(Fault):
    name, what, passes = "etcd-killed", "etcd alone is killed on the primary's host", True
    before = None

    def process(self):
        return self.cluster.ssh(self.victim.name, "systemctl show --property=MainPID --value etcd").strip()

    def begin(self):
        self.before = self.process()
        self.cluster.ssh(self.victim.name, "systemctl kill --signal=KILL etcd")

    def is_over(self):
        healthy = f"{ETCDCTL} endpoint health >/dev/null 2>&1 && echo healthy || echo ill"
        changed = self.process() not in ("0", self.before)
        return changed and self.cluster.ssh(self.victim.name, healthy).strip() == "healthy" and super().is_over()


class ReplicaKilled(Replica):
    name, what = "replica-killed", "every process of a replica's host is killed at once"

    def begin(self):
        self.victim.kill()
        nspawn.wait_until(lambda: self.victim.name not in self.cluster.members(self.home), f"{self.victim.name} is missed", 60)

    def end(self):
        if not self.victim.is_up():
            self.victim.boot()


class EtcdMajorityLost(Fault):
    """Patroni's failsafe mode carries the primary through it: every member says that it follows."""

    name, what = "etcd-majority-lost", "etcd stops on two of three hosts for longer than the primary's lock lives, and starts again"

    def choose(self):
        primary = super().choose()
        self.stopped = [primary.name, self.other(primary.name)]
        return primary

    def hit(self):
        return set(self.stopped)

    def where(self):
        return " and ".join(self.stopped)

    def begin(self):
        for name in self.stopped:
            self.cluster.ssh(name, "systemctl stop etcd")
        self.alone = time.monotonic()
        nspawn.wait_until(self.is_felt, f"{self.victim.name} continues without etcd", 90)

    def is_felt(self):
        return self.state().get("failsafe_mode_is_active") and time.monotonic() - self.alone > LOCK_S + 10

    def end(self):
        # One alone has no quorum: its start is waited for only when the other has begun.
        for name in self.stopped:
            self.tell(name, "systemctl start --no-block etcd")


class StoreUnreachable(Fault):
    name, what = "s3-unreachable", "the region's object store is unreachable until WAL could not be archived"
    # What was to be archived when the store went; nothing where it did not come to that.
    wal = ""

    def store(self):
        """Whose store it is: the region's own."""
        return f"{self.home}-s3"

    def hit(self):
        return {self.store()}

    def where(self):
        return self.store()

    def take(self):
        self.cluster.cloud.cut(self.store())

    def begin(self):
        failed = int(self.cluster.sql(self.home, ARCHIVE_FAILURES)[0])
        self.take()
        self.wal = self.cluster.sql(self.home, "select pg_walfile_name(pg_switch_wal())")[0]
        nspawn.wait_until(lambda: int(self.cluster.sql(self.home, ARCHIVE_FAILURES)[0]) > failed, "archiving fails", 120)

    def end(self):
        if self.cluster.cloud.is_cut(self.store()):
            self.cluster.cloud.heal(self.store())

    def is_over(self):
        # Of the timeline only: after a failover the rest of the old one is archived by another host.
        archived = f"select coalesce(last_archived_wal, '') >= '{self.wal}' from pg_stat_archiver"
        return self.cluster.sql(self.home, archived) == ["t"]


class BucketLost(StoreUnreachable):
    """The primary writes to both buckets; this one is the standby region's."""

    name, what = "bucket-lost", "the other region's object store loses its power until WAL could not be archived"

    def store(self):
        return f"{next(name for name in self.cluster.regions() if name != self.home)}-s3"

    def take(self):
        self.cluster.machines[self.store()].kill()

    def end(self):
        if not self.cluster.machines[self.store()].is_up():
            self.cluster.machines[self.store()].boot()


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
        EtcdDataLost,
        DamagedPage,
        RegionLost,
        RegionReplacedUnseen,
        RegionCut,
        RegionPowerLost,
        PowerLost,
        StoreUnreachable,
        BucketLost,
        ServiceZoneCut,
        Switchover,
        Backup,
        PlaybookKilled,
        RollOut,
    )
}
