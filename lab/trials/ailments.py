"""What the alerts' pages are for: faults that no request notices, or that a page cures in one step."""

from lab.hosts import machine, nspawn, plan
from lab.trials.fault import REGION, Fault, Replica

UPLOAD = "systemd-journal-upload"
CERTIFICATE = "/etc/ssl/cluster/host"
PUT_ASIDE = f"/{machine.DATA}/{plan.POSTGRESQL}/a.20260101T000000"


class Stopped(Fault):
    """Units that somebody stopped."""

    def begin(self):
        self.cluster.ssh(self.victim.name, f"systemctl stop {self.units}")


class MemberStopped(Stopped, Replica):
    name, what, units = "member-stopped", "Patroni and etcd are stopped on a replica's host", "patroni etcd"

    def begin(self):
        super().begin()
        host = self.victim.name
        unused = f"select count(*) from pg_replication_slots where slot_name = '{host.replace('-', '_')}' and not active"
        nspawn.wait_until(lambda: self.cluster.sql(REGION, unused) == ["1"], f"nobody uses the slot of {host}", 60)


class EtcdStopped(Stopped, Replica):
    name, what, units = "etcd-stopped", "etcd is stopped on a replica's host", "etcd"


class UploadStopped(Stopped, Replica):
    name, what, units = "upload-stopped", "a host does not send its journal", UPLOAD


class Service(Fault):
    def choose(self):
        return self.cluster.machines[self.choice(self.cluster.places("service", REGION)).name]


class ServiceStopped(Stopped, Service):
    name, what, units = "service-stopped", "the service is stopped on a host", "dob-api.socket dob-api"


class Monitor(Fault):
    def choose(self):
        return self.cluster.machines[f"{REGION}-monitor"]


class PrometheusStopped(Stopped, Monitor):
    name, what, units = "prometheus-stopped", "Prometheus and Alertmanager are stopped", "prometheus prometheus-alertmanager"


class ConfigurationBroken(Monitor):
    name, what = "configuration-broken", "a manual change broke the configuration of Prometheus"

    def begin(self):
        self.cluster.ssh(self.victim.name, "echo 'wrong: [' >>/etc/prometheus/prometheus.yml")


class DiskFilling(Fault):
    """What a restore put aside fills the volume to nine tenths."""

    name, what = "disk-filling", "files that a restore set aside fill the primary's disk"

    def begin(self):
        size = f"$(($(df --output=avail --block-size=1 /{machine.DATA} | tail -n 1) * 9 / 10))"
        self.cluster.ssh(self.victim.name, f"mkdir {PUT_ASIDE} && fallocate --length {size} {PUT_ASIDE}/base")

    def end(self):
        # The page's row says what to remove, in words.
        self.tell(self.victim.name, f"rm -rf {PUT_ASIDE}")


class CertificateEnds(Replica):
    """The authority signs the host's key again, for ten days."""

    name, what = "certificate-ends", "the certificate of a host expires in ten days"

    def begin(self):
        held = self.cluster.credentials
        text = self.cluster.ssh(
            self.victim.name, f"openssl x509 -x509toreq -copy_extensions copyall -in {CERTIFICATE}.crt -signkey {CERTIFICATE}.key"
        )
        authority = ("-CA", held.ca, "-CAkey", held.ca_key, "-days", "10", "-copy_extensions", "copyall")
        short = nspawn.run("openssl", "x509", "-req", *authority, input=text).stdout
        write = self.cluster.ssh_command(self.victim.name, f"cat >{CERTIFICATE}.crt && systemctl reload patroni")
        self.cluster.operator(*write, input=short, check=True)


class UnitFailed(Replica):
    """A timer's work was ended from outside, and nobody starts it again at once."""

    name, what = "unit-failed", "a unit of a host has failed"
    unit = "prometheus-node-exporter"

    def begin(self):
        self.cluster.ssh(self.victim.name, f"mkdir -p /run/systemd/system/{self.unit}.service.d && systemctl stop {self.unit}")
        limit = "[Service]\\nRestart=no\\n"
        self.cluster.ssh(self.victim.name, f"printf '{limit}' >/run/systemd/system/{self.unit}.service.d/trial.conf && systemctl daemon-reload")
        self.cluster.ssh(self.victim.name, f"systemctl start {self.unit} && systemctl kill --signal=SEGV {self.unit}")
        # It exits with 1 where the unit has not failed yet: then it is asked again.
        failed = f"systemctl is-failed {self.unit} || true"
        nspawn.wait_until(lambda: self.cluster.ssh(self.victim.name, failed).strip() == "failed", f"{self.unit} has failed", 30)

    def end(self):
        self.tell(self.victim.name, f"rm -rf /run/systemd/system/{self.unit}.service.d && systemctl daemon-reload")


TABLE = {
    fault.name: fault
    for fault in (
        MemberStopped,
        EtcdStopped,
        UploadStopped,
        ServiceStopped,
        PrometheusStopped,
        ConfigurationBroken,
        DiskFilling,
        CertificateEnds,
        UnitFailed,
    )
}
