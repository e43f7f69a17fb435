"""What one stolen key or password is worth: each attack is performed from the host where a thief would have it."""

import pathlib
import re
import subprocess
import time

import pytest

from lab.hosts import nspawn, plan
from lab.reports import watch
from test_trust_doors import FOLDER

ROGUE = pathlib.Path(__file__).with_name("rogue.py").read_text()
PORT = 5499
ATTACK = '{"postgresql": {"parameters": {"archive_command": "touch /tmp/taken-over"}}}'
OWN = "--cacert {0}/ca.crt --cert {0}/{1}.crt --key {0}/{1}.key"


@pytest.fixture
def region(whole):
    """The region that takes writes."""
    return next(name for name in whole.regions() if whole.leader(name))


def status(cluster, host, command):
    # curl fails where it is refused, and says 000 then: that is what is asked for.
    return cluster.ssh(host, f"curl -s -m 5 -o /dev/null -w '%{{http_code}}' {command} || true").strip()


def etcd(cluster, host, key, endpoint):
    flags = f"--cacert={FOLDER}/ca.crt --cert={FOLDER}/{key}.crt --key={FOLDER}/{key}.key"
    command = f"etcdctl {flags} --endpoints=https://{endpoint}:2379 --command-timeout=3s get --prefix --keys-only /dob-api/"
    return cluster.operator(*cluster.ssh_command(host, command), capture_output=True, timeout=30)


@pytest.mark.parametrize("monitor", ["a-monitor", "b-monitor"])
def test_a_monitoring_host_changes_nothing_on_a_database_host(whole, monitor):
    before = {region: whole.get(f"https://{plan.databases(region)[0].address}:8008/config") for region in plan.NETWORKS}
    # With each of its keys, and with none.
    ways = {key: OWN.format(FOLDER, key) for key in ("monitor", "host", "watch")} | {"none": f"--cacert {FOLDER}/ca.crt"}
    put = '{"key": "AA==", "value": "AA=="}'
    for place in (place for region in plan.NETWORKS for place in plan.databases(region)):
        for key, way in ways.items():
            # 403: Patroni says no. 000: it does not even end the handshake.
            changed = status(whole, monitor, f"{way} -X PATCH -d '{ATTACK}' https://{place.name}:8008/config")
            assert changed in ("403", "000"), (place.name, key)
            assert status(whole, monitor, f"{way} -d '{put}' https://{place.name}:2379/v3/kv/put") == "000", (place.name, key)
    for region, settings in before.items():
        assert whole.get(f"https://{plan.databases(region)[0].address}:8008/config") == settings


def identity(cluster, host, unit):
    """The options of setpriv that make a program what a unit's process is."""
    pid = cluster.ssh(host, f"systemctl show --property=MainPID --value {unit}").strip()
    lines = dict(line.split(":", 1) for line in cluster.ssh(host, f"cat /proc/{pid}/status").splitlines())
    user, group = lines["Uid"].split()[0], lines["Gid"].split()[0]
    assert user != "0", unit
    return f"--reuid={user} --regid={group} --groups={','.join([group, *lines['Groups'].split()])}"


def test_exporters_and_the_log_sender_read_no_key_that_opens_patroni_etcd_or_postgresql(whole):
    host = "a-db1"
    for unit in ("prometheus-node-exporter", "prometheus-postgres-exporter", "dob-etcd-metrics", "systemd-journal-upload"):
        became = f"setpriv {identity(whole, host, unit)}"
        readable = whole.ssh(host, f"{became} sh -c 'for key in {FOLDER}/*.key; do cat $key >/dev/null 2>&1 && echo $key; done; true'")
        assert readable.split() == [f"{FOLDER}/watch.key"], unit
    # The key that they do read is no client's.
    own = OWN.format(FOLDER, "watch")
    assert status(whole, host, f"{own} -X PATCH -d '{ATTACK}' https://a-db2:8008/config") == "000"
    assert etcd(whole, host, "watch", "a-db2").returncode != 0
    assert etcd(whole, host, "host", "a-db2").returncode == 0


def test_a_database_role_shows_the_certificate_of_its_own_name(whole):
    held = whole.credentials.secrets()
    target = f"host=a-db2 user=postgres dbname=postgres sslmode=verify-full sslrootcert={FOLDER}/ca.crt"
    for shown, said in (("postgres", "^1$"), ("replicator", "authentication failed")):
        own = f"sslcert={FOLDER}/{shown}.crt sslkey={FOLDER}/{shown}.key"
        login = f"read -r PGPASSWORD; export PGPASSWORD; psql -X -w -Atc 'select 1' '{target} {own}' 2>&1"
        command = whole.ssh_command("a-db1", login)
        answered = whole.operator(*command, input=f"{held['patroni_superuser_password']}\n", capture_output=True, timeout=30).stdout
        assert re.search(said, answered), answered


@pytest.fixture
def rogue(whole):
    """Starts a server that asks for passwords in clear, with a key of its host; returns what it was told so far."""
    started = []

    def start(host, key):
        seen = f"/tmp/rogue-{key}"
        whole.operator(*whole.ssh_command(host, "cat >/tmp/rogue.py"), input=ROGUE, check=True)
        address = whole.machines[host].address
        command = f"python3 /tmp/rogue.py {address} {PORT} {FOLDER}/{key} {seen}"
        whole.ssh(host, f"rm -f {seen}; systemd-run --quiet --collect --unit=rogue {command}")
        started.append(host)
        nspawn.wait_until(lambda: whole.ssh(host, f"test -e {seen} && echo yes || true"), "the rogue server", 60)
        return lambda: whole.ssh(host, f"cat {seen}")

    yield start
    for host in started:
        whole.ssh(host, "systemctl stop rogue; rm -f /tmp/rogue*")


def stolen_conninfo(cluster, region):
    """A standby's own way to its primary, as PostgreSQL has it."""
    standby = next(place.name for place in plan.databases(region) if place.name != cluster.leader(region))
    return standby, cluster.ssh(standby, "sudo -u postgres psql -XAtc 'show primary_conninfo'").strip()


@pytest.mark.parametrize("pretender", ["a service host", "a database host that was taken over"])
def test_a_rogue_server_gets_no_password_from_a_standby(whole, region, rogue, pretender):
    standby, conninfo = stolen_conninfo(whole, region)
    host, key = (f"{region}-app1", "watch") if pretender == "a service host" else (whole.leader(region), "host")
    told = rogue(host, key)
    elsewhere = re.sub(r"host=\S+ port=\S+", f"host={whole.machines[host].address} port={PORT}", conninfo)
    assert f"port={PORT}" in elsewhere
    password = whole.credentials.secrets()["patroni_replication_password"]

    def connect(target):
        # The password is in Patroni's file by host and port: here it is given, as to the primary.
        ask = f'psql -X -w -c "select 1" "{target} replication=true" 2>&1'
        login = f"read -r PGPASSWORD; export PGPASSWORD; sudo --preserve-env=PGPASSWORD -u postgres {ask}"
        return whole.operator(*whole.ssh_command(standby, login), input=f"{password}\n", capture_output=True, timeout=60).stdout

    said = connect(elsewhere)
    assert told() == "" and re.search("channel binding", said), said
    # The rogue server does take a password from a client that is less careful.
    connect(elsewhere.replace("channel_binding=require", "channel_binding=prefer"))
    assert password in told()


def test_every_connection_of_patroni_checks_the_name_and_binds_the_channel(whole):
    for place in (place for region in plan.NETWORKS for place in plan.databases(region)):
        config = whole.ssh(place.name, "cat /etc/patroni/config.yml")
        assert (config.count("sslmode: verify-full"), config.count("channel_binding: require")) == (3, 2)
    for region in plan.NETWORKS:
        _, conninfo = stolen_conninfo(whole, region)
        assert "sslmode=verify-full" in conninfo and "channel_binding=require" in conninfo


def put(cluster, region, name):
    """Writes through a balancer, with the patience that the service has."""
    url = f"http://{cluster.machines[f'{region}-lb'].address}/hello/{name}"
    body = ("-X", "PUT", "-d", '{"dateOfBirth": "2000-01-01"}')
    answer = cluster.operator("curl", *body, "-s", "-m", "60", "-o", "/dev/null", "-w", "%{http_code}", url, capture_output=True)
    return answer.stdout


@pytest.mark.long
def test_a_stolen_service_password_stops_writes_only_until_site_runs(whole, region):
    held = whole.credentials.secrets()
    role = held.get("service_database_login", "dob")
    assert put(whole, region, "before") == "204"
    leader = whole.leader(region)
    attack = (
        f"alter role {role} set default_transaction_read_only = on; alter role {role} in database dob set search_path = nowhere; "
        f"alter role {role} password 'taken'; "
        f"select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = '{role}' and pid <> pg_backend_pid()"
    )
    target = f"host={leader} user={role} dbname=dob sslmode=verify-full sslrootcert={FOLDER}/ca.crt"
    command = whole.ssh_command(leader, f"read -r PGPASSWORD; export PGPASSWORD; psql -X -w -q -v ON_ERROR_STOP=1 '{target}'")
    whole.operator(*command, input=f"{held['service_database_password']}\n{attack};\n", check=True, capture_output=True, timeout=60)
    assert put(whole, region, "during") != "204"

    def alerted():
        return any(labels["alertname"] == "RoleSettings" for labels, _ in watch.ask(whole, region, watch.QUERIES)["alerts"])

    nspawn.wait_until(alerted, "RoleSettings fires", 120)
    refused = whole.playbook("switchover.yml", "-e", f"target_region={region}", check=False, stdout=subprocess.PIPE).stdout
    assert f"{role} changed its own settings" in re.sub(r"\s+", " ", refused)
    began = time.monotonic()
    whole.playbook("site.yml", stdout=subprocess.DEVNULL)
    print(f"site: {time.monotonic() - began:.0f} s")
    assert put(whole, region, "after") == "204"
    assert whole.sql(region, "select count(*) from pg_db_role_setting where setrole <> 0") == ["0"]
    whole.wait_until_whole(region)


def test_the_service_role_cannot_take_every_connection(whole, region):
    role = whole.credentials.secrets().get("service_database_login", "dob")
    assert whole.sql(region, f"select rolconnlimit from pg_roles where rolname = '{role}'") == ["90"]
