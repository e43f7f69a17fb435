"""What upkeep promises: newer versions come in under load, one host at a time, and what would cost an outage is refused."""

import re
import subprocess

import pytest

import plan
import versions
from test_region import recap, survives

SOURCES = "/etc/apt/sources.list.d/cluster.sources"
PACKAGES = ("postgresql-17", "patroni", "etcd-server", "pgbackrest")
DATABASES = [place.name for region in plan.NETWORKS for place in plan.databases(region)]


def refused(cluster, playbook, *arguments):
    """What a playbook said before it stopped without a change."""
    done = cluster.playbook(playbook, *arguments, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode != 0, done.stdout
    assert set(recap(done.stdout).values()) <= {0}
    return re.sub(r"\s+", " ", done.stdout)


def write(cluster, host, path, text):
    cluster.operator(*cluster.ssh_command(host, f"cat >{path}"), input=text, check=True)


def asked(cluster, host, statement):
    """What a host's own PostgreSQL answers."""
    psql = cluster.ssh_command(host, "sudo", "-u", "postgres", "psql", "-X", "-At", "-v", "ON_ERROR_STOP=1")
    return cluster.operator(*psql, input=statement, check=True, capture_output=True).stdout.strip()


def timeline(cluster, region):
    return {member["timeline"] for member in cluster.members(region).values()}.pop()


@pytest.fixture
def archive(whole):
    """The apt repository of the run, known to the database hosts."""
    sources = (whole.run.folder / "site/apt/dob-api.sources").read_text()
    for host in DATABASES:
        write(whole, host, SOURCES, sources)
    yield
    for host in DATABASES:
        whole.ssh(host, "rm", SOURCES)


def test_a_minor_upgrade_costs_no_request_and_one_switchover(whole, archive, client):
    newer = {package: versions.newer(whole, package) for package in PACKAGES}
    before = timeline(whole, "a")
    with client("a") as ledger:
        whole.playbook("minor-upgrade.yml")
        ledger.goes_on()
    survives(ledger, "a")
    assert timeline(whole, "a") == before + 1
    query = "dpkg-query --show --showformat '${Package} ${Version}\\n' " + " ".join(PACKAGES)
    upgraded = "select pg_postmaster_start_time() > (pg_stat_file('/var/lib/dpkg/info/postgresql-17.list')).modification"
    for host in DATABASES:
        assert dict(line.split() for line in whole.ssh(host, query).splitlines()) == newer
        assert asked(whole, host, upgraded) == "t"


@pytest.mark.parametrize(
    ("unit", "reason"), [("patroni", "Patroni does not answer on b-db2: start it there first"), ("etcd", "etcd of region b is not whole")]
)
def test_an_upgrade_of_a_region_that_is_not_whole_is_refused(whole, archive, unit, reason):
    whole.ssh("b-db2", "systemctl", "stop", unit)
    try:
        assert reason in refused(whole, "minor-upgrade.yml")
    finally:
        whole.ssh("b-db2", "systemctl", "start", unit)
