"""The playbooks that are killed on the way: from which state each begins, and what leads back to it."""

from lab.hosts import nspawn, plan
from lab.trials import regions, versions

SOURCES = "/etc/apt/sources.list.d/cluster.sources"
HOME = plan.FIRST
OTHER = next(name for name in plan.NETWORKS if name != HOME)
ADDED = f"{HOME}-db4"


class Subject:
    """A playbook with its settings, on a whole cluster whose region a takes writes."""

    # In which region the clients write, and which settings the playbook takes.
    region, settings = HOME, ()
    # Whether a region is lost: its clients may be refused, and its last writes may not have been carried.
    refuses = False

    def __init__(self, cluster, choice):
        self.cluster, self.choice = cluster, choice

    @property
    def file(self):
        return f"{self.name}.yml"

    def prepare(self):
        """Brings the cluster to where the playbook begins."""

    def begin(self):
        """What happens under load before the playbook: why it is run."""

    def again(self):
        """What is run after a kill, as the page says: a playbook and its settings."""
        return self.file, self.settings

    def afterwards(self):
        """Brings it back, when the playbook has come to its end."""


class Switchover(Subject):
    name = "switchover"

    def prepare(self):
        followers = [place.name for place in self.cluster.places("database", HOME) if place.name != self.cluster.leader(HOME)]
        self.settings = (f"target_region={HOME}", f"patroni_candidate={self.choice(followers)}")


class Backup(Subject):
    name, settings = "backup", ("backup_type=full",)


class RestoreDrill(Subject):
    name = "restore-drill"

    def prepare(self):
        regions.play(self.cluster, "backup.yml", "backup_type=full")


class Site(Subject):
    """Every certificate is renewed: a run that changes something on every host."""

    name, settings = "site", ("certificates_renew_days=10000",)


class SiteReplaces(Subject):
    """A replica's host was lost, and an empty one stands in its place."""

    name, file = "site-replaces", "site.yml"

    def prepare(self):
        followers = [place.name for place in self.cluster.places("database", HOME) if place.name != self.cluster.leader(HOME)]
        self.cluster.replace(self.cluster.machines[self.choice(followers)])


class MinorUpgrade(Subject):
    name = "minor-upgrade"

    def prepare(self):
        sources = (self.cluster.run.folder / "site/apt/dob-api.sources").read_text()
        for region in self.cluster.regions():
            for place in self.cluster.places("database", region):
                write = self.cluster.ssh_command(place.name, f"cat >{SOURCES}")
                self.cluster.operator(*write, input=sources, check=True)
        for package in versions.PACKAGES:
            versions.newer(self.cluster, package)

    def afterwards(self):
        for region in self.cluster.regions():
            for place in self.cluster.places("database", region):
                self.cluster.ssh(place.name, "rm", SOURCES)


class Rotate(Subject):
    name = "rotate"

    def prepare(self):
        self.cluster.credentials.renew()


class AddHost(Subject):
    name, settings = "add-host", (f"target_host={ADDED}",)

    def prepare(self):
        if ADDED not in self.cluster.machines:
            self.cluster.add(plan.SPARES[ADDED])

    def afterwards(self):
        regions.play(self.cluster, "remove-host.yml", f"target_host={ADDED}")
        forget(self.cluster)


class RemoveHost(Subject):
    name, settings = "remove-host", (f"target_host={ADDED}",)

    def prepare(self):
        AddHost.prepare(self)
        regions.play(self.cluster, "add-host.yml", f"target_host={ADDED}")

    def afterwards(self):
        forget(self.cluster)


def forget(cluster):
    """Takes the host that a playbook removed out of the inventory, and has the others told."""
    cluster.remove(cluster.machines[ADDED])
    regions.play(cluster, "site.yml")


class FailoverRegion(Subject):
    name, region, settings, refuses = "failover-region", OTHER, (f"target_region={OTHER}",), True

    def begin(self):
        self.cluster.cloud.cut(HOME)

    def afterwards(self):
        regions.end_loss(self.cluster, HOME)
        regions.rejoin(self.cluster, HOME)
        regions.fail_back(self.cluster, HOME)


class Rejoin(Subject):
    # More than a region can hold that was lost a moment ago.
    name, region, settings = "rejoin", OTHER, (f"target_region={HOME}", "region_discard=1000000")

    def prepare(self):
        self.cluster.cloud.cut(HOME)
        regions.promote(self.cluster, OTHER)
        regions.end_loss(self.cluster, HOME)
        nspawn.wait_until(lambda: regions.waits(self.cluster, HOME), f"region {HOME} waits for a decision", 120)

    def afterwards(self):
        regions.fail_back(self.cluster, HOME)


class Failback(Subject):
    name, settings = "failback", (f"target_region={OTHER}",)

    def afterwards(self):
        regions.fail_back(self.cluster, HOME)


class Restore(Subject):
    """Region a is restored to the latest point, and region b rebuilt from it. What had not reached the bucket is not carried."""

    name, settings, refuses = "restore", (f"target_region={HOME}", "restore_target=latest"), True

    def prepare(self):
        found = f"sudo -u postgres pgbackrest --stanza={HOME} --repo=1 info"
        if "full backup:" not in self.cluster.ssh(f"{HOME}-db1", found):
            regions.play(self.cluster, "backup.yml", "backup_type=full")

    def begin(self):
        for machine in regions.hosts_of(self.cluster, HOME):
            self.cluster.ssh(machine.name, "systemctl stop patroni")

    def again(self):
        if self.cluster.leader(HOME):
            return "rejoin.yml", (f"target_region={OTHER}", "region_discard=all")
        self.begin()
        return super().again()

    def afterwards(self):
        for region in self.cluster.regions():
            for machine in regions.hosts_of(self.cluster, region):
                self.cluster.ssh(machine.name, f"rm -rf /var/lib/postgresql/{plan.POSTGRESQL}/{region}.2*")


TABLE = {
    subject.name: subject
    for subject in (
        Switchover,
        Backup,
        RestoreDrill,
        Site,
        SiteReplaces,
        MinorUpgrade,
        Rotate,
        AddHost,
        RemoveHost,
        FailoverRegion,
        Rejoin,
        Failback,
        Restore,
    )
}
