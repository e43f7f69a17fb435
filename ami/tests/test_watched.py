"""Hosts from the image are found, asked and heard by the monitoring host of their region, which the playbook site has made."""

import json
import pathlib
import shutil
import subprocess
import sys
import time
import urllib.parse

import pytest

from conftest import DATABASE, MONITOR, REGION, SUBNET, TOP
from lab.hosts import nspawn

TAGS = {"Project": "dob-api", "Role": "service", "Region": "a", "Name": "dob-api-a-app"}
ADDRESSES = {name: f"{SUBNET}.{number}" for number, name in enumerate(("app1", "app2"), 61)}
USER_DATA = f"DATABASE_URL=postgres://dob_api@{DATABASE}/dob_api\nDOB_API_MONITOR=a-monitor/{MONITOR}\n"
# One host that is not of the service, and one of another project: neither is to be asked.
OTHERS = {f"{SUBNET}.71": TAGS | {"Role": "database"}, f"{SUBNET}.72": TAGS | {"Project": "another"}}
LISTED = dict.fromkeys(ADDRESSES.values(), TAGS) | OTHERS
# A shell finds it by itself.
LOGS = ("/usr/local/bin/dob-api-logs",)
BIN = pathlib.Path(sys.prefix) / "bin"
AUTHORITIES = "etc/ssl/certs/ca-certificates.crt"


def trusting(host, tree, authority):
    """Lets a host take our region's interfaces for the cloud's."""
    file = host.folder / "upper" / AUTHORITIES
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text((pathlib.Path(tree) / AUTHORITIES).read_text() + authority.ca.read_text())
    return host


@pytest.fixture(scope="module")
def hosts(network, tree, cloud, authority, database):
    """Two hosts from the image, as the cloud lists them."""
    cloud.set(user_data=USER_DATA, instances=LISTED)
    made = {}
    for name, address in ADDRESSES.items():
        host = trusting(nspawn.Host(network, name, address, tree), tree, authority)
        quiet = host.folder / "upper/etc/systemd/journald.conf.d/test.conf"
        quiet.parent.mkdir(parents=True)
        quiet.write_text("[Journal]\nForwardToConsole=no\n")
        made[name] = host.boot()
    return made


@pytest.fixture(scope="module")
def monitor(owner, network, authority, hosts, cloud):
    """The monitoring host of region a, by the playbook as in the cloud, and its name server."""
    rootfs = nspawn.run(TOP / "lab/hosts/rootfs", "monitoring", timeout=1200).stdout.strip()
    host = trusting(nspawn.Host(network, "a-monitor", MONITOR, rootfs), rootfs, authority)
    key = owner.folder / "operator"
    nspawn.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
    files = {"root/.ssh/authorized_keys": key.with_suffix(".pub").read_text(), "etc/resolv.conf": f"nameserver {SUBNET}.1\n"}
    for name, text in files.items():
        file = host.folder / "upper" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (host.folder / "upper/root").chmod(0o700)
    (host.folder / "upper/etc/ssh").mkdir(parents=True)
    nspawn.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", host.folder / "upper/etc/ssh/ssh_host_ed25519_key")
    host.boot()
    # The file system lacks it, so that the cluster's hosts need their archive; here is none.
    package = next(pathlib.Path(nspawn.run(TOP / "lab/hosts/packages", timeout=1800).stdout.strip(), "pool").glob("ssl-cert_*.deb"))
    shutil.copy(package, host.folder / "upper/ssl-cert.deb")
    host.run("dpkg", "--install", "/ssl-cert.deb")
    facts = {"ansible_host": MONITOR, "address": MONITOR, "region": "a", "zone": "a1"}
    common = {
        "ansible_user": "root",
        "ansible_ssh_common_args": f"-i {key} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null",
        "certificates_ca_file": str(authority.ca),
        "certificates_ca_key_file": f"{authority.ca}.key",
        "monitoring_receivers": {"webhooks": [f"http://{SUBNET}.1:9/alerts"]},
        "monitoring_discovery": {"region": REGION},
        "logs_of_images": True,
    }
    groups = {"monitoring": {"hosts": {"a-monitor": facts}}, "region_a": {"hosts": {"a-monitor": {}}}, "database": {"hosts": {}}}
    inventory = owner.folder / "inventory.json"
    inventory.write_text(json.dumps({"all": {"vars": common, "children": groups}}))
    environment = {**nspawn.ENVIRONMENT, "PATH": f"{BIN}:{nspawn.ENVIRONMENT['PATH']}", "ANSIBLE_CONFIG": str(TOP / "ansible/ansible.cfg")}
    environment |= {"HOME": str(owner.folder), "ANSIBLE_TIMEOUT": "60"}
    command = (BIN / "ansible-playbook", "--inventory", inventory, TOP / "ansible/site.yml")
    nspawn.run("nsenter", f"--net=/run/netns/{network.namespace}", *command, env=environment, timeout=1200)
    return host


def asked(monitor, expression):
    """What Prometheus answers: the labels of each series, with its value."""
    url = f"http://127.0.0.1:9090/api/v1/query?query={urllib.parse.quote(expression)}"
    result = json.loads(monitor.run("curl", "-sS", url).stdout)["data"]["result"]
    return [(one["metric"], float(one["value"][1])) for one in result]


def firing(monitor):
    return {labels["alertname"] for labels, _ in asked(monitor, 'ALERTS{alertstate="firing"}')}


def identity(host):
    return host.run("cat", "/proc/sys/kernel/hostname").stdout.strip()


def test_hosts_are_found_by_their_tags_and_asked_over_tls(monitor, hosts):
    names = {identity(host) for host in hosts.values()}
    assert len(names) == 2 and all(name.startswith("i-") for name in names)

    def up():
        return {(labels["job"], labels["instance"], labels["region"]) for labels, value in asked(monitor, 'up{discovered="ec2"}') if value == 1}

    wanted = {(job, name, "a") for job in ("service", "service-node") for name in names}
    nspawn.wait_until(lambda: up() == wanted, "both hosts are asked", 120)
    # Neither the database host nor that of another project is a target.
    assert len(asked(monitor, 'up{discovered="ec2"}')) == len(wanted)
    for series in ("dob_api_store_queue_depth", "dob_api_http_requests_total", "node_filesystem_avail_bytes"):
        found = {labels["instance"] for labels, _ in asked(monitor, f'{series}{{discovered="ec2"}}')}
        assert found == names, series
    ends = asked(monitor, 'dob_certificate_end_timestamp_seconds{server="service"}')
    assert {labels["instance"] for labels, _ in ends} == names and all(time.time() < end < time.time() + 3 * 86400 for _, end in ends)
    assert "ServiceUnknown" not in firing(monitor)
    # Each collector gives what it is there for: one that fails is an error in the log each time that it is asked.
    assert asked(monitor, "node_scrape_collector_success == 0") == []
    units = {labels["name"] for labels, _ in asked(monitor, 'node_systemd_unit_state{state="active"} == 1')}
    assert "dob-api.service" in units
    # UnitRestarts asks for these.
    assert "dob-api.service" in {labels["name"] for labels, _ in asked(monitor, "node_systemd_service_restart_total")}


def test_nobody_but_the_monitoring_host_learns_a_figure(monitor, hosts, network, authority):
    stranger = ("ip", "netns", "exec", network.namespace, "curl", "-s", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", authority.ca)
    shown = ("--connect-to", f"service::{ADDRESSES['app1']}:")
    own = authority("service")
    for port in (9080, 9100):
        url = f"https://service:{port}/metrics"
        for certificate in ((), ("--cert", own), ("--cert", authority("b-monitor"))):
            assert nspawn.run(*stranger, *shown, *certificate, url, check=False).stdout == "000"
        assert nspawn.run(*stranger, f"http://{ADDRESSES['app1']}:{port}/metrics", check=False).stdout == "000"
        assert nspawn.run(*stranger, *shown, "--cert", authority("a-monitor"), url).stdout == "200"


def test_the_logs_of_each_host_arrive_in_files_of_its_own(monitor, hosts):
    for name, host in hosts.items():
        host.run("logger", "--tag=trial", f"a line of {name}")

        def arrived(host=host, name=name):
            found = monitor.run(*LOGS, f"_HOSTNAME={identity(host)}", "--identifier=trial", check=False)
            return f"a line of {name}" in found.stdout

        nspawn.wait_until(arrived, f"the line of {name}", 60)
        # What was logged before the sender started stays on the host.
        host.run("systemctl", "restart", "dob-api")

        def served(host=host):
            return '"serving"' in monitor.run(*LOGS, f"_HOSTNAME={identity(host)}", "--unit=dob-api", check=False).stdout

        nspawn.wait_until(served, f"the service's lines of {name}", 60)
    files = {path.rpartition("/")[2] for path in monitor.shell("ls /var/lib/prometheus/journal").stdout.split()}
    assert {f"remote-127.{address.partition('.')[2]}.journal" for address in ADDRESSES.values()} <= files


def test_a_certificate_of_nobody_we_know_sends_no_logs(monitor, network, authority):
    send = ("ip", "netns", "exec", network.namespace, "curl", "-s", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", authority.ca)
    shown = ("--connect-to", f"a-monitor::{MONITOR}:", "--data-binary", "", "https://a-monitor:19532/upload")
    entry = ("-H", "Content-Type: application/vnd.fdo.journal")
    for certificate in ((), ("--cert", authority("stranger"))):
        assert nspawn.run(*send, *certificate, *entry, *shown, check=False).stdout == "000"
    assert nspawn.run(*send, "--cert", authority("service"), *entry, *shown).stdout != "000"


def test_a_new_certificate_reaches_a_host_that_runs(monitor, hosts, cloud, authority, owner):
    def shown():
        command = ("openssl", "s_client", "-connect", f"{ADDRESSES['app1']}:9080", "-servername", "service")
        return nspawn.run("nsenter", f"--net=/run/netns/{monitor.network.namespace}", *command, check=False, stdin=subprocess.DEVNULL).stdout

    before = shown().partition("-----BEGIN")[2].partition("-----END")[0]
    assert before
    cloud.identity = authority("service").read_text()
    cloud.set(user_data=USER_DATA, instances=LISTED)
    hosts["app1"].run("systemctl", "start", "dob-api-watched")
    nspawn.wait_until(lambda: shown().partition("-----BEGIN")[2].partition("-----END")[0] not in ("", before), "the new certificate", 60)
    nspawn.wait_until(lambda: len(asked(monitor, 'up{discovered="ec2"} == 1')) == 4, "both hosts are asked again", 60)


def test_the_service_serves_though_nobody_can_watch_it(hosts, cloud):
    """The certificate is no part of what the service needs: without it a host starts, and says what is missing."""
    host = hosts["app1"]
    cloud.set(user_data=USER_DATA, denied=["/dob-api/service-identity"], instances=LISTED)
    since = time.time()
    host.run("systemctl", "restart", "--no-block", "dob-api-watched")
    line = "dob-api is not watched: the parameter /dob-api/service-identity in eu-west-1 is refused to the role dob-api"

    def said():
        return line in host.run("journalctl", "--no-pager", "--output=cat", f"--since=@{since}").stdout

    nspawn.wait_until(said, "the line", 60)
    assert host.run("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "http://127.0.0.1:8080/healthz").stdout == "200"
    cloud.set(user_data=USER_DATA, instances=LISTED)


def test_services_that_end_are_an_alert_and_hosts_that_are_gone_another(monitor, hosts, cloud):
    """The last test, as nothing serves after it."""
    nspawn.wait_until(lambda: len(asked(monitor, 'up{job="service"} == 1')) == 2, "both services are up", 120)
    assert not firing(monitor) & {"ServiceGone", "ServiceUnknown"}
    # One by its service alone, the other as a power cut takes it; the cloud takes both for running.
    last = identity(hosts["app2"])
    hosts["app2"].run("logger", "--tag=trial", "the last words")
    nspawn.wait_until(lambda: "the last words" in monitor.run(*LOGS, f"_HOSTNAME={last}", check=False).stdout, "the last words", 60)
    hosts["app1"].run("systemctl", "kill", "--signal=KILL", "dob-api.service")
    hosts["app1"].run("systemctl", "stop", "dob-api.service", "dob-api.socket")
    hosts["app2"].kill()
    nspawn.wait_until(lambda: "ServiceGone" in firing(monitor), "ServiceGone", 180)
    # What it logged stays when it is gone.
    assert "the last words" in monitor.run(*LOGS, f"_HOSTNAME={last}").stdout
    cloud.set(user_data=USER_DATA, instances=OTHERS)
    nspawn.wait_until(lambda: asked(monitor, 'ALERTS{alertname="ServiceUnknown"}'), "no service is known", 180)
    assert asked(monitor, 'up{job="service"}') == []
