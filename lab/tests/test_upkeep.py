"""What upkeep promises: newer versions come in under load, one host at a time, and what would cost an outage is refused."""

import re
import subprocess

import pytest

from lab.hosts import nspawn, plan
from lab.hosts.credentials import Credentials
from lab.trials import promises, versions
from lab.trials.fault import ETCDCTL
from test_region import etcd, recap, survives

SOURCES = "/etc/apt/sources.list.d/cluster.sources"
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
def region(whole):
    """The region that takes writes."""
    return next(name for name in whole.regions() if whole.leader(name))


@pytest.fixture
def archive(whole):
    """The apt repository of the run, known to the database hosts."""
    sources = (whole.run.folder / "site/apt/dob-api.sources").read_text()
    for host in DATABASES:
        write(whole, host, SOURCES, sources)
    yield
    for host in DATABASES:
        whole.ssh(host, "rm", SOURCES)


@pytest.mark.long
def test_a_minor_upgrade_costs_no_request_and_one_switchover(whole, region, archive, client):
    newer = {package: versions.newer(whole, package) for package in versions.PACKAGES}
    before = timeline(whole, region)
    with client(region) as ledger:
        whole.playbook("minor-upgrade.yml")
        ledger.goes_on()
    survives(ledger, region)
    assert timeline(whole, region) == before + 1
    query = "dpkg-query --show --showformat '${Package} ${Version}\\n' " + " ".join(versions.PACKAGES)
    installed = f"/var/lib/dpkg/info/{versions.PACKAGES[0]}.list"
    upgraded = f"select pg_postmaster_start_time() > (pg_stat_file('{installed}')).modification"
    for host in DATABASES:
        assert dict(line.split() for line in whole.ssh(host, query).splitlines()) == newer
        assert asked(whole, host, upgraded) == "t"


@pytest.mark.long
@pytest.mark.parametrize(
    ("unit", "reason"), [("patroni", "Patroni does not answer on b-db2: start it there first"), ("etcd", "etcd of region b is not whole")]
)
def test_an_upgrade_of_a_region_that_is_not_whole_is_refused(whole, archive, unit, reason):
    whole.ssh("b-db2", "systemctl", "stop", unit)
    try:
        assert reason in refused(whole, "minor-upgrade.yml")
    finally:
        whole.ssh("b-db2", "systemctl", "start", unit)


def lets_in(cluster, host, user, password):
    """Whether a database host lets a role in with a password."""
    target = f"host={host} user={user} dbname={'dob' if user.startswith('dob') else 'postgres'} sslmode=verify-full"
    if not user.startswith("dob"):
        target += f" sslcert=/etc/ssl/cluster/{user}.crt sslkey=/etc/ssl/cluster/{user}.key"
    # The password goes by standard input: nobody else on the host sees it.
    login = f"read -r PGPASSWORD; export PGPASSWORD; psql -X -w -Atc 'select 1' '{target} sslrootcert=/etc/ssl/cluster/ca.crt'"
    done = cluster.operator(*cluster.ssh_command(host, login), input=f"{password}\n", capture_output=True)
    assert done.returncode == 0 or re.search("authentication failed|does not exist", done.stderr), done.stderr
    return done.returncode == 0


def logins(held):
    """Which roles there are, with their passwords."""
    roles = {"superuser": "postgres", "replication": "replicator", "rewind": "rewinder"}
    service = {held.get("service_database_login", "dob"): held["service_database_password"]}
    return service | {role: held[f"patroni_{use}_password"] for use, role in roles.items()}


def keys(cluster):
    """The public key that each database host shows at each port."""
    ports = [(2379, ()), (8008, ()), (5432, ("-starttls", "postgres"))]
    shown = {}
    for place in (cluster.machines[name].place for name in DATABASES):
        for port, how in ports:
            said = cluster.operator("openssl", "s_client", "-connect", f"{place.address}:{port}", *how, input="", capture_output=True)
            shown[place.name, port] = nspawn.run("openssl", "x509", "-noout", "-pubkey", input=said.stdout).stdout
    return shown


@pytest.mark.long
def test_a_rotation_costs_no_request_and_the_old_passwords_and_keys_are_of_no_use(whole, region, client):
    old, old_keys = logins(whole.credentials.secrets()), keys(whole)
    whole.credentials.renew()
    new = logins(whole.credentials.secrets())
    with client(region) as ledger:
        said = whole.playbook("rotate.yml", "-v", stdout=subprocess.PIPE).stdout
        ledger.goes_on()
    survives(ledger, region)
    assert not [secret for secret in {*old.values(), *new.values()} if secret in said]
    for host in ("a-db1", "b-db1"):
        assert {role for role, password in old.items() if lets_in(whole, host, role, password)} == set()
        assert {role for role, password in new.items() if not lets_in(whole, host, role, password)} == set()
    assert [server for server, key in keys(whole).items() if key == old_keys[server]] == []
    followed = "select count(pg_terminate_backend(pid, 10000)) from pg_stat_replication"
    # A standby that can reconnect has the new password.
    assert asked(whole, whole.leader(region), followed) == "3"
    streaming = "select count(*) from pg_stat_replication where state = 'streaming'"
    nspawn.wait_until(lambda: asked(whole, whole.leader(region), streaming) == "3", "every standby streams again")


@pytest.mark.long
def test_a_new_password_for_the_role_that_the_service_uses_is_refused(whole):
    assert "the service logs in as dob" in refused(whole, "rotate.yml", "-e", "service_database_password=another")


def test_a_rotation_is_refused_while_a_host_does_not_answer(whole):
    whole.machines["a-app2"].kill()
    assert re.search(r"a-app2 : .*?unreachable=1", refused(whole, "rotate.yml", "--timeout=10"))


@pytest.mark.long
def test_a_region_grows_and_its_new_host_leads_and_leaves_without_a_failed_request(whole, region, client):
    added, sick = f"{region}-db4", f"{region}-db2"
    other = next(name for name in whole.regions() if name != region)
    whole.add(plan.SPARES[added])
    target = ("-e", f"target_host={added}")
    with client(region) as ledger:
        whole.playbook("add-host.yml", *target)
        assert whole.is_whole(region) and added in whole.members(region)
        assert len(etcd(whole, region)) == 4
        assert added in whole.ssh(whole.places("service", other)[0].name, "cat", "/etc/default/dob-api")
        whole.playbook("switchover.yml", "-e", f"target_region={region}", "-e", f"patroni_candidate={added}")
        # The other region looks for the primary there, too.
        followed = "select count(*) from pg_replication_slots where slot_name = 'other_region' and active"
        nspawn.wait_until(lambda: asked(whole, added, followed) == "1", f"region {other} follows the new host", 60)

        whole.ssh(sick, "systemctl", "stop", "patroni")
        assert f"Patroni does not answer on {sick}" in refused(whole, "remove-host.yml", *target)
        whole.ssh(sick, "systemctl", "start", "patroni")
        whole.wait_until_whole(region)

        whole.playbook("remove-host.yml", *target)
        whole.remove(whole.machines[added])
        whole.playbook("site.yml")
        ledger.goes_on()
    survives(ledger, region)
    assert whole.is_whole(region) and len(whole.members(region)) == len(etcd(whole, region)) == 3
    nspawn.wait_until(lambda: asked(whole, whole.leader(region), followed) == "1", f"region {other} follows", 60)


@pytest.mark.parametrize(
    ("playbook", "arguments", "reason"),
    [
        ("remove-host.yml", ("-e", "target_host=a-db1"), "without a-db1 region a would have 2 database hosts"),
        ("remove-host.yml", (), "name the host with --extra-vars target_host=NAME"),
        ("add-host.yml", ("-e", "target_host=a-db9"), "name the host with --extra-vars target_host=NAME"),
    ],
)
def test_a_host_that_is_needed_or_not_there_is_neither_removed_nor_added(whole, playbook, arguments, reason):
    assert reason in refused(whole, playbook, *arguments)
    assert whole.is_whole("a")


MOVE_ETCD = """cd /etc/ssl/cluster; export ETCDCTL_CACERT=ca.crt ETCDCTL_CERT=host.crt ETCDCTL_KEY=host.key; for turn in 1 2 3 4 5 6; do
all=$(etcdctl --endpoints=https://127.0.0.1:2379 member list | awk -F', ' '{ print $5 }' | paste -sd,)
other=$(etcdctl --endpoints=$all endpoint status | awk -F', ' '$5 == "false" { print $2; exit }')
etcdctl --endpoints=$all move-leader "$other"; done"""


def lose_etcd(cluster, names, region):
    """Removes etcd's data of a whole region, whose cluster has seen some leaders, and starts it: empty, and younger than Patroni knows it."""
    cluster.ssh(names[0], MOVE_ETCD)
    for command in ("systemctl stop etcd", f"rm -r /var/lib/etcd/{region}", "systemctl start etcd"):
        for host in names:
            cluster.ssh(host, command)
    # grep fails where it counts none, and prints 0: that is an answer.
    stale = "journalctl --unit patroni --since=-5min | grep -c 'Old known term' || true"
    nspawn.wait_until(lambda: cluster.ssh(names[0], stale).strip() != "0", "Patroni refuses the younger etcd", 60)


@pytest.mark.long
def test_an_etcd_that_lost_its_data_is_rebuilt_and_the_region_has_failover_again(whole, region, client):
    names, primary = [place.name for place in plan.databases(region)], whole.leader(region)
    assert "holds the settings of Patroni" in refused(whole, "etcd-rebuild.yml", "-e", f"target_region={region}")
    with client(region) as ledger:
        lose_etcd(whole, names, region)
        whole.playbook("etcd-rebuild.yml", "-e", f"target_region={region}")
        ledger.goes_on()
    print(ledger.figures())
    assert whole.leader(region) == primary
    assert ledger.lost(region) == []
    whole.machines[primary].kill()
    nspawn.wait_until(lambda: whole.leader(region) not in (None, primary), "another host takes over", 120)


@pytest.mark.long
def test_a_new_authority_beside_the_old_one_costs_no_request_and_no_etcd(whole, region, client, tmp_path):
    """The first two steps of the page, and then back: the object stores here have certificates of the old authority alone."""
    old, new = whole.credentials, Credentials(tmp_path / "authority", whole.inventory, whole.venv)
    new.folder.mkdir()
    new._authority()
    with client(region) as ledger:
        for step, (first, second, signs, renew) in enumerate(((old, new, old, 30), (new, old, new, 10000), (old, new, old, 10000)), 1):
            both = tmp_path / f"authorities-{step}.crt"
            both.write_text(first.ca.read_text() + second.ca.read_text())
            settings = {"certificates_ca_file": both, "certificates_ca_key_file": signs.ca_key, "certificates_renew_days": renew}
            whole.playbook("site.yml", *(f"--extra-vars={name}={value}" for name, value in settings.items()))
            for host in DATABASES:
                # In step 2 only the second of them has signed the certificate that the host shows.
                write(whole, host, "/run/signs.crt", signs.ca.read_text())
                whole.ssh(host, "openssl verify -CAfile /run/signs.crt /etc/ssl/cluster/host.crt")
                whole.ssh(host, f"{ETCDCTL} endpoint health")
        whole.playbook("site.yml")
        ledger.goes_on()
    print(ledger.figures())
    assert ledger.failed("PUT") == ledger.failed("GET") == []
    assert promises.broken(whole) == []
