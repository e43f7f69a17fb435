"""What may happen to data on a disk: it is gone, or it is wrong."""

from lab.hosts import nspawn, plan
from lab.trials import regions
from lab.trials.fault import ETCDCTL, Replica

PSQL = "cd / && sudo -u postgres psql -X -At -v ON_ERROR_STOP=1 -d dob -c"
# Every row is read, not only the index.
READ = "select max(date_of_birth) from users"


class EtcdDataLost(Replica):
    """A member that comes back empty is refused by the others; `site` makes it a new one."""

    name, what = "etcd-data-lost", "etcd's data is gone on a replica's host"

    def begin(self):
        self.tell(self.victim.name, f"systemctl stop etcd; rm -rf /var/lib/etcd/{self.home}; systemctl start --no-block etcd")

    def recover(self):
        regions.play(self.cluster, "site.yml", f"--limit=region_{self.home}")
        super().recover()

    def is_over(self):
        health = f"{ETCDCTL} endpoint health >/dev/null 2>&1 && echo healthy || echo ill"
        return self.tell(self.victim.name, health).strip() == "healthy" and super().is_over()


class DamagedPage(Replica):
    """Its first page was written long ago: no WAL brings it back. The host's cache is emptied, as it would be after days."""

    name, what = "damaged-page", "a page of the table is damaged on a replica's disk"

    def begin(self):
        host = self.victim.name
        self.cluster.sql(self.home, "checkpoint")
        file = self.cluster.sql(self.home, "select pg_relation_filepath('users')", "dob")[0]
        nspawn.wait_until(lambda: self.damaged(host, file), f"{host} finds its page damaged", 120)

    def damaged(self, host, file):
        path = f"/var/lib/postgresql/{plan.POSTGRESQL}/{self.home}/{file}"
        self.tell(host, f"systemctl stop patroni && printf damaged | dd of={path} bs=1 seek=8100 conv=notrunc status=none; systemctl start patroni")
        nspawn.wait_until(lambda: self.state().get("state") == "running", f"{host} runs again", 90)
        return self.read().returncode != 0

    def read(self):
        return self.cluster.operator(*self.cluster.ssh_command(self.victim.name, f"{PSQL} '{READ}'"), capture_output=True, timeout=60)

    def recover(self):
        if self.victim.name == self.cluster.leader(self.home):
            regions.play(self.cluster, "switchover.yml", f"target_region={self.home}")
        reinit = f"patronictl --config-file /etc/patroni/config.yml reinit --force {self.home} {self.victim.name}"
        nspawn.wait_until(lambda: self.cluster.is_whole(self.home), f"region {self.home} whole before the copy", 300)
        self.tell(self.victim.name, reinit)
        nspawn.wait_until(lambda: self.read().returncode == 0, f"{self.victim.name} reads its table again", 300)
        super().recover()
