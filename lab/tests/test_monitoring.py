"""What the monitoring promises: everything is watched, an alert reaches the operator, every log is found, and nobody else may look."""

import functools
import re
import secrets
import subprocess

import pytest

from lab.hosts import nspawn, pager, plan
from lab.reports import status, watch
from tools import TOP

EXPORTERS = {"database": (2381, 9100, 9187), "service": (9080, 9100), "monitoring": (9100, 19532)}
KNOWN = TOP / "lab/hosts/metrics.txt"
TLS = "--cacert /etc/ssl/cluster/ca.crt"
# What a host shows: a service host has the key of its exporters alone.
OWN = f"{TLS} --cert /etc/ssl/cluster/watch.crt --key /etc/ssl/cluster/watch.key"
MEMBER = OWN.replace("watch", "host")
# What a unit always logs, if only when it starts.
SAID = {"patroni": "lock", "etcd": "raft|leader", "dob-api": "listening|started|Started", "dob-backup@*": "region|nothing to save"}


def query(cluster, region, expression):
    return watch.ask(cluster, region, {"asked": expression})["asked"]


@pytest.mark.parametrize("region", plan.NETWORKS)
def test_every_target_is_up(whole, region):
    other = next(name for name in plan.NETWORKS if name != region)
    own = {f"{place.name}:{kind}" for place in plan.databases(region) for kind in ("node", "postgres", "patroni", "etcd")}
    own |= {f"{place.name}:{kind}" for place in whole.places("service", region) for kind in ("node", "service")}
    own |= {f"{watch.monitor(region)}:{kind}" for kind in ("node", "prometheus", "alertmanager")}
    own |= {f"{place.name}:patroni" for place in plan.databases(other)}

    def up():
        return {f"{labels['instance']}:{labels['job']}" for labels, value in query(whole, region, "up") if value == 1}

    nspawn.wait_until(lambda: up() == own, f"all targets of region {region}", 60)
    # Whose database came back just now is asked again within 15 s.
    nspawn.wait_until(lambda: query(whole, region, "pg_up == 0") == [], f"every exporter of region {region} reaches its database", 60)


@pytest.mark.long
def test_every_metric_that_is_asked_for_is_there_with_its_labels(whole):
    whole.playbook("backup.yml", "-e", "backup_type=full", stdout=subprocess.DEVNULL)
    whole.playbook("restore-drill.yml", stdout=subprocess.DEVNULL)
    whole.ssh(whole.leader("a"), "systemctl", "start", "--no-block", "dob-backup-verify")
    lines = [line.split() for line in KNOWN.read_text().splitlines() if line and line[0] not in "#?"]
    wanted = {name: set(labels) for name, *labels in lines}

    def missing():
        found = watch.ask(whole, "a", {name: name for name in wanted})
        there = {name: set().union(*(labels for labels, _ in series)) for name, series in found.items()}
        return {name: labels - there[name] for name, labels in wanted.items() if not found[name] or labels - there[name]}

    nspawn.wait_until(lambda: not missing(), f"every metric; missing: {missing()}", 90)


@pytest.mark.long
def test_a_client_without_the_certificate_of_the_monitoring_host_gets_nothing(whole):
    for region in plan.NETWORKS:
        machines = [machine for machine in whole.machines.values() if machine.place.region == region and machine.place.kind in EXPORTERS]
        service, database = whole.places("service", region)[0].name, plan.databases(region)[0].name
        for machine in machines:
            for port in EXPORTERS[machine.place.kind]:
                url = f"https://{machine.name}:{port}/metrics"
                asked = {"a stranger": (service, TLS), "a service host": (service, OWN), "a database host": (database, MEMBER)}
                # Any host of the region sends logs.
                if port == 19532:
                    asked = {"a stranger": (service, TLS)}
                for who, (host, how) in asked.items():
                    assert http_status(whole, host, how, url) == "000", f"{who} at {url}"
        # Patroni tells anybody who leads, and lets nobody change that but a database host.
        change = "-X POST -d '{}'"
        assert http_status(whole, service, f"{OWN} {change}", f"https://{database}:8008/reload") == "000"
        assert http_status(whole, service, f"{TLS} {change}", f"https://{database}:8008/reload") == "403"
        # The admin listener itself is on loopback: the balancer's host cannot reach it.
        app = whole.places("service", region)[0]
        # curl fails where nobody answers, and says 000 then: that is what is asked for.
        balancer = whole.ssh(f"{region}-lb", f"curl -s -m 3 -o /dev/null -w '%{{http_code}}' http://{app.address}:9080/metrics || true")
        assert balancer == "000"


def http_status(cluster, host, how, url):
    # curl fails where it is refused, and says 000 then: the caller judges what it says.
    return cluster.ssh(host, f"curl {how} -s -m 5 -o /dev/null -w '%{{http_code}}' {url} || true")


@pytest.mark.long
def test_a_member_that_ends_is_told_by_webhook_and_by_mail_with_the_page_to_read(whole):
    before = len(pager.notes(whole.run))
    victim = next(place.name for place in plan.databases("a") if place.name != whole.leader("a"))
    whole.ssh(victim, "systemctl", "stop", "patroni")

    def told(way):
        news = pager.notes(whole.run)[before:]
        return [note["content"] for note in news if note["way"] == way and "MemberDown" in str(note["content"])]

    by_webhook = nspawn.wait_until(lambda: told("alerts"), "a webhook", 240)
    by_mail = nspawn.wait_until(lambda: told("mail"), "a mail", 60)
    alert = next(one for one in by_webhook[0]["alerts"] if one["labels"]["alertname"] == "MemberDown")
    assert alert["labels"]["instance"] == victim
    page = alert["annotations"]["runbook_url"]
    assert re.fullmatch(r"https://.*/docs/runbooks/alerts/member\.md", page)
    assert page in by_mail[0].replace("=\r\n", "")
    assert any(labels["alertname"] == "MemberDown" for labels, _ in query(whole, "a", watch.QUERIES["alerts"]))
    whole.ssh(victim, "systemctl", "start", "patroni")
    nspawn.wait_until(lambda: any("resolved" in str(content) for content in told("alerts")), "the end of the alert", 240)


def test_the_dead_mans_switch_is_heard_from_both_regions(whole):
    def heard():
        notes = [note["content"] for note in pager.notes(whole.run) if note["way"] == "deadman"]
        return {alert["labels"]["monitor"] for content in notes for alert in content["alerts"]}

    nspawn.wait_until(lambda: heard() == {watch.monitor(region) for region in plan.NETWORKS}, "Watchdog", 120)


@pytest.mark.parametrize("region", [plan.FIRST, pytest.param("b", marks=pytest.mark.long)])
def test_the_logs_of_every_unit_are_found_on_the_monitoring_host(whole, region):
    for place in [*plan.databases(region), *whole.places("service", region)]:
        units = ("dob-api",) if place.kind == "service" else ("patroni", "etcd", "dob-backup@*")
        for unit in units:
            search = watch.search([SAID[unit], f"--unit={unit}", "--lines=1", f"_HOSTNAME={place.name}"])
            nspawn.wait_until(functools.partial(found, whole, region, search), f"{unit} of {place.name}", 120)


@pytest.mark.long
def test_a_line_that_calls_itself_an_error_is_found_and_counted(whole):
    leader = whole.leader("a")
    counted = f"sum(dob_log_errors_total{{host='{leader}',unit='patroni'}})"

    def errors():
        return sum(value for _, value in query(whole, "a", counted))

    before = errors()
    for _ in range(3):
        whole.operator(*whole.ssh_command(leader, "sudo -u postgres psql -c 'select no_such_column'"), capture_output=True)
    nspawn.wait_until(lambda: found(whole, "a", watch.search(["no_such_column", "--lines=1"])), "the line", 60)
    nspawn.wait_until(lambda: errors() >= before + 3, "the count", 150)


@pytest.mark.long
def test_what_a_host_logged_while_it_was_cut_off_arrives_later(whole):
    machine = whole.machines[plan.databases("b")[2].name]
    word = f"cut{secrets.token_hex(4)}"
    whole.ssh(machine.name, f"systemd-run --on-active=5 sh -c 'logger {word}; touch /var/tmp/{word}'")
    whole.cloud.cut(machine.name)
    # What it writes on its disk is seen from outside.
    nspawn.wait_until((machine.folder / f"upper/var/tmp/{word}").exists, "a line that is logged during the cut", 60)
    assert not found(whole, "b", watch.search([word, "--identifier=root"]))
    whole.cloud.heal(machine.name)
    nspawn.wait_until(lambda: found(whole, "b", watch.search([word, "--identifier=root"])), "the line", 300)


def found(cluster, region, search):
    said = cluster.operator(*cluster.ssh_command(watch.monitor(region), search), capture_output=True, timeout=60)
    return said.stdout if said.returncode == 0 and "No entries" not in said.stdout else ""


def test_status_shows_what_a_person_on_call_opens_first(whole):
    for region in plan.NETWORKS:
        said = "\n".join(watch.lines(whole, region))
        assert re.search(rf"^alerts in region {region}: ", said, re.M)
        assert re.search(rf"^last restore proven in region {region}: ", said, re.M)
        assert re.search(rf"^traffic of region {region}: [\d.]+ requests/s", said, re.M)
    assert re.search(r"^slots of a-db\d: .*other_region in use", "\n".join(watch.lines(whole, "a")), re.M)


def test_status_is_shown_though_a_monitoring_host_is_frozen(whole):
    whole.machines["b-monitor"].freeze()
    assert watch.lines(whole, "b") == ["b-monitor does not answer: no alerts, no figures"]
    assert status.show(whole).splitlines()[0].startswith("host")


def test_the_page_shows_every_member(whole):
    page = whole.ssh("a-monitor", "curl -sS http://127.0.0.1:9090/consoles/dob-api.html")
    for name in (place.name for region in plan.NETWORKS for place in plan.databases(region)):
        assert f"<td>{name}</td>" in page
    # The name of an alert, and the head of a table, are none.
    assert "error" not in re.sub("errors ?logged", "", page.lower())
