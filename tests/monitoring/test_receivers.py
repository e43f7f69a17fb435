"""Alerts reach the right receivers, each once, with a link; wrong receivers are refused; no secret leaves its file."""

import http.server
import importlib.util
import json
import os
import pathlib
import re
import shutil
import socketserver
import subprocess
import threading
import time
import urllib.request

import pytest
import yaml

from conftest import HOST, ROLE, TOP, alerts, play, render, run, tool

SPEC = importlib.util.spec_from_file_location("receivers", TOP / "ansible/filter_plugins/receivers.py")
receivers = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(receivers)

KEY = "0123456789abcdefghijABCDEFGHIJ01"
MAIL = {"to": "operator@example.org", "from": "alerts@example.org", "smarthost": "mail.example.org:587", "username": "dob", "password": "s\"e'cret"}
WAYS = {
    "mail": MAIL,
    "slack": {"webhook_url": "https://hooks.example.org/services/T0/B0/secret", "channel": "#alerts"},
    "pagerduty": {"routing_key": KEY},
    "webhooks": ["https://example.org/alerts?token=secret", "https://example.org/others"],
    "sns_topic": "arn:aws:sns:eu-west-1:123456789012:dob-api-a-alarms",
}
CONFIGS = {
    "mail": "email_configs",
    "slack": "slack_configs",
    "pagerduty": "pagerduty_configs",
    "webhooks": "webhook_configs",
    "sns_topic": "sns_configs",
}
SETTINGS = {way: {way: value} for way, value in WAYS.items()} | {
    "all": {**WAYS, "deadman_webhook": "https://example.org/deadman"},
    "apart": {"page": {"pagerduty": WAYS["pagerduty"]}, "ticket": {"slack": WAYS["slack"], "mail": MAIL}},
    "shared": {"webhooks": WAYS["webhooks"], "page": {"pagerduty": WAYS["pagerduty"], "webhooks": ["https://example.org/pages"]}},
}
EXPECTED = {way: ({way}, {way}) for way in WAYS} | {
    "all": (set(WAYS), set(WAYS)),
    "apart": ({"pagerduty"}, {"slack", "mail"}),
    "shared": ({"pagerduty", "webhooks"}, {"webhooks"}),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    files = {f"{name}.yml": ("alertmanager.yml.j2", {"monitoring_receivers": setting}) for name, setting in SETTINGS.items()}
    files["unlinked.yml"] = ("alertmanager.yml.j2", {"monitoring_receivers": WAYS, "monitoring_runbooks_url": ""})
    render(folder, files)
    for file in folder.glob("*.yml"):
        file.write_text(file.read_text().replace("/etc/prometheus/alerts.tmpl", str(ROLE / "files/alerts.tmpl")))
    return folder


@pytest.mark.parametrize("name", SETTINGS)
def test_alertmanager_accepts_its_configuration_and_each_severity_has_its_ways(made, name):
    file = made / f"{name}.yml"
    said = run(tool("amtool"), "check-config", file)
    assert said.returncode == 0, said.stdout + said.stderr
    assert "1 templates" in said.stdout
    found = {one["name"]: one for one in yaml.safe_load(file.read_text())["receivers"]}
    assert found.keys() == {"page", "ticket", "nobody", "deadman"}
    for severity, ways in zip(("page", "ticket"), EXPECTED[name], strict=True):
        assert found[severity].keys() == {"name"} | {CONFIGS[way] for way in ways}, severity
    assert found["nobody"].keys() == {"name"}
    assert ("webhook_configs" in found["deadman"]) == (name == "all")
    assert receivers.receiver_faults(SETTINGS[name]) == []


@pytest.mark.parametrize("name", SETTINGS)
def test_no_configuration_contains_a_secret_and_each_file_that_it_names_is_written(made, name):
    text = (made / f"{name}.yml").read_text()
    secrets = receivers.receiver_secrets(SETTINGS[name])
    assert not [secret for secret in (*secrets.values(), "secret", KEY, MAIL["password"]) if secret in text]
    assert {pathlib.Path(path).name for path in re.findall(r"_file: (\S+)", text)} == secrets.keys()
    assert {str(pathlib.Path(path).parent) for path in re.findall(r"_file: (\S+)", text)} <= {"/etc/prometheus/receivers"}


ROUTES = {
    ("alertname=NoPrimary", "severity=page"): "page",
    ("alertname=MemberDown", "severity=ticket", "region=a"): "ticket",
    ("alertname=Watchdog", "severity=none"): "deadman",
    ("alertname=PrimaryRegionSilent", "severity=none"): "nobody",
    # A rule with an unknown severity.
    ("alertname=Other", "severity=critical"): "page",
}


@pytest.mark.parametrize("name", SETTINGS)
def test_an_alert_goes_to_the_receiver_of_its_severity(made, name):
    # The routes that no setting changes are asked for once.
    for labels in list(ROUTES)[: None if name == "all" else 2]:
        said = run(tool("amtool"), "config", "routes", "test", f"--config.file={made / name}.yml", *labels)
        assert said.stdout.split() == [ROUTES[labels]], said.stderr


def test_without_published_runbooks_no_receiver_gets_a_link_that_leads_nowhere(made):
    said = run(tool("amtool"), "check-config", made / "unlinked.yml")
    assert said.returncode == 0, said.stdout + said.stderr
    assert not re.search("title_link|links:", (made / "unlinked.yml").read_text())
    assert re.search("title_link", (made / "all.yml").read_text())
    assert re.search("links:", (made / "all.yml").read_text())


def test_whatever_an_inhibition_names_is_an_alert(made):
    rules = {rule["alert"] for _, rule in alerts()}
    for rule in yaml.safe_load((made / "all.yml").read_text())["inhibit_rules"]:
        for matcher in rule["source_matchers"] + rule["target_matchers"]:
            named = set(re.fullmatch(r'alertname (?:=|!=|=~) "?([\w|]+)"?', matcher)[1].split("|"))
            assert named <= rules, matcher


def change(**ways):
    """All receivers, with the given changes."""
    return {**SETTINGS["all"], **ways}


WRONG = {
    "nobody hears": ({}, "nobody would hear an alert of severity page"),
    "nobody hears tickets": ({"page": {"sns_topic": WAYS["sns_topic"]}}, "nobody would hear an alert of severity ticket"),
    "an empty list": ({"webhooks": []}, "nobody would hear an alert of severity page"),
    "an unknown way": ({"ticket": {"fax": 1, "mail": MAIL}, "page": {"mail": MAIL}}, "monitoring_receivers.ticket has the unknown way 'fax'"),
    "no address": (change(mail={**MAIL, "to": "operator"}), "monitoring_receivers.mail.to is no address"),
    "two addresses": (change(mail={**MAIL, "to": "a@example.org, b@example.org"}), "monitoring_receivers.mail.to is no address"),
    "no port": (change(mail={**MAIL, "smarthost": "mail.example.org"}), "monitoring_receivers.mail.smarthost is no host with its port"),
    "a port beyond": (change(mail={**MAIL, "smarthost": "mail.example.org:70000"}), "monitoring_receivers.mail.smarthost is no host with its port"),
    "no password": (change(mail={**MAIL, "password": ""}), "monitoring_receivers.mail has one of username and password"),
    "a password in clear": (change(mail={**MAIL, "require_tls": False}), "monitoring_receivers.mail would send its password in clear"),
    "Slack in clear": (change(slack={"webhook_url": "http://hooks.example.org/secret"}), "monitoring_receivers.slack.webhook_url is no URL"),
    "a line end": (change(slack={"webhook_url": "https://hooks.example.org/secret\n"}), "monitoring_receivers.slack.webhook_url is no URL"),
    "two channels": (change(slack={**WAYS["slack"], "channel": "#a #b"}), "monitoring_receivers.slack.channel is no name"),
    "a short key": (change(pagerduty={"routing_key": "secret"}), "monitoring_receivers.pagerduty.routing_key is no integration key"),
    "the second webhook": (
        change(webhooks=["https://example.org", "example.org/secret"]),
        "or http:// in place 2",
    ),
    "a topic without account": (change(sns_topic="arn:aws:sns:eu-west-1::alarms"), "monitoring_receivers.sns_topic is no ARN"),
    "a deadman by name": (change(deadman_webhook="secret"), "monitoring_receivers.deadman_webhook is no URL"),
    "a page's own": (
        {"mail": MAIL, "page": {"pagerduty": {"routing_key": "secret"}}},
        "monitoring_receivers.page.pagerduty.routing_key is no integration key",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_receiver_is_refused_by_a_sentence_without_its_secret(name):
    setting, sentence = WRONG[name]
    first, *_ = receivers.receiver_faults(setting)
    assert first.startswith(sentence) or sentence in first
    assert "secret" not in first
    assert "\n" not in first


REFUSED = [
    ({"monitoring_receivers": WRONG["a short key"][0]}, "monitoring_receivers.pagerduty.routing_key is no integration key"),
    ({"monitoring_receivers": WAYS, "monitoring_runbooks_url": "http://wiki.example.org"}, "monitoring_runbooks_url is no URL"),
    ({"monitoring_receivers": WAYS, "monitoring_runbooks_url": "https://wiki.example.org/a b"}, "monitoring_runbooks_url is no URL"),
    ({"monitoring_receivers": WAYS, "monitoring_runbooks_url": "https://wiki.example.org/\n"}, "monitoring_runbooks_url is no URL"),
    ({"monitoring_receivers": WAYS, "monitoring_runbooks_url": ""}, "accepted"),
    ({"monitoring_receivers": WAYS, "monitoring_runbooks_url": "https://wiki.example.org:8443/dob/"}, "accepted"),
    ({"monitoring_receivers": WAYS}, "accepted"),
]


def test_the_playbook_stops_at_a_wrong_setting_with_that_sentence(tmp_path):
    settings = yaml.safe_load((ROLE / "tasks/settings.yml").read_text())
    accepted, refused = ({"ansible.builtin.debug": {"msg": f"RESULT {text}"}} for text in ("accepted", "{{ ansible_failed_result.msg }}"))
    said = play(tmp_path, [{"block": [*settings, accepted], "rescue": [refused], "vars": variables} for variables, _ in REFUSED])
    results = re.findall(r"RESULT (.*)\"", said.stdout)
    assert len(results) == len(REFUSED), said.stdout
    for result, (_, sentence) in zip(results, REFUSED, strict=True):
        assert result.startswith(sentence)
    assert "secret" not in said.stdout + said.stderr


def test_site_checks_the_receivers_before_it_changes_any_host():
    # The plays before it only look which hosts can be reached.
    first = next(play for play in yaml.safe_load((TOP / "ansible/site.yml").read_text()) if "roles" in play)
    included = [task["ansible.builtin.include_role"] for task in first["pre_tasks"] if "ansible.builtin.include_role" in task]
    assert {"name": "monitoring", "tasks_from": "settings"} in included


class Taken(http.server.BaseHTTPRequestHandler):
    """Receives Alertmanager's posts."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.taken.append((self.path, body))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


class Mail(socketserver.StreamRequestHandler):
    """The part of SMTP that is needed to receive a mail."""

    def handle(self):
        self.say("220 here")
        for line in self.rfile:
            word = line.split()[0].upper()
            if word == b"DATA":
                self.say("354 send it")
                self.server.taken.append(("mail", b"".join(iter(self.rfile.readline, b".\r\n")).decode()))
            self.say("250 here")
            if word == b"QUIT":
                return

    def say(self, text):
        self.wfile.write(f"{text}\r\n".encode())


@pytest.fixture(scope="module")
def alertmanager(made):
    """A real Alertmanager with every kind of receiver; this server receives what it sends."""
    # Debian's Alertmanager has its own templates, which are found on a monitoring host alone; the file system is shared.
    folder, taken, servers = HOST / f"var/tmp/dob-alertmanager-test-{os.getpid()}", [], []
    folder.mkdir()
    inside = f"/{folder.relative_to(HOST)}"
    for kind, handler in ((http.server.ThreadingHTTPServer, Taken), (socketserver.ThreadingTCPServer, Mail)):
        server = kind(("127.0.0.1", 0), handler)
        server.taken = taken
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
    web, smtp = (server.server_address[1] for server in servers)
    setting = yaml.safe_load((made / "all.yml").read_text())
    setting["global"] = {"pagerduty_url": f"http://127.0.0.1:{web}/pagerduty"}
    setting["route"]["group_wait"] = "1s"
    for one in setting["receivers"]:
        # A topic would need an emulated cloud.
        one.pop("sns_configs", None)
        for mail in one.get("email_configs", []):
            # Alertmanager sends a password only over TLS, which this server does not offer.
            mail |= {"smarthost": f"127.0.0.1:{smtp}", "require_tls": False}
            mail.pop("auth_username")
    secrets = receivers.receiver_secrets(SETTINGS["all"])
    for name in secrets:
        way = name.removeprefix("all-")
        (folder / name).write_text(KEY if way == "pagerduty" else f"http://127.0.0.1:{web}/{way}")
    shutil.copy(ROLE / "files/alerts.tmpl", folder)
    setting["templates"] = [f"{inside}/alerts.tmpl"]
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(setting).replace("/etc/prometheus/receivers", inside))
    with (folder / "log").open("w") as log:
        command = ["chroot", str(HOST), "/usr/bin/prometheus-alertmanager", f"--config.file={inside}/alertmanager.yml"]
        options = [f"--storage.path={inside}/data", "--cluster.listen-address=", "--web.listen-address=127.0.0.1:0"]
        process = subprocess.Popen([*command, *options], stdout=log, stderr=log)
    try:
        address = wait_for(lambda: re.search(r"Listening on\S* address=(\S+)", (folder / "log").read_text()), lambda: (folder / "log").read_text())[1]
        yield f"http://{address}/api/v2/alerts", taken, folder
    finally:
        process.terminate()
        process.wait(timeout=30)
        for server in servers:
            server.shutdown()
            server.server_close()
        shutil.rmtree(folder)


def wait_for(condition, said):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if found := condition():
            return found
        threading.Event().wait(0.1)
    raise AssertionError(said())


def send(url, *fired, page="https://wiki.example.org/alerts/x.md"):
    content = [
        {"labels": {"monitor": "b-monitor", **labels}, "annotations": {"summary": f"{labels['alertname']} <&>", "runbook_url": page}}
        for labels in fired
    ]
    request = urllib.request.Request(url, json.dumps(content).encode(), {"Content-Type": "application/json"})
    urllib.request.urlopen(request, timeout=10).close()


def hear(url, wanted, **labels):
    """Waits until the alerts of a case that nothing mutes are these."""
    case = "&".join(f"filter={name}={value}" for name, value in labels.items())

    def heard():
        with urllib.request.urlopen(f"{url}?inhibited=false&{case}", timeout=10) as answer:
            return sorted(one["labels"]["alertname"] + "/" + one["labels"].get("instance", "") for one in json.load(answer))

    # Alertmanager receives sources and targets one after the other.
    wait_for(lambda: heard() == wanted, lambda: f"{heard()} instead of {wanted}")


def test_each_way_carries_what_happened_and_the_link_to_the_page(alertmanager):
    url, taken, folder = alertmanager
    send(url, {"alertname": "Trial", "severity": "page", "region": "a", "instance": "a-db1"})
    ways = {"/slack", "/pagerduty", "/webhook-1", "/webhook-2", "mail"}
    got = wait_for(lambda: (found := dict(taken)).keys() >= ways and found, lambda: f"{taken} {(folder / 'log').read_text()}")
    page = "https://wiki.example.org/alerts/x.md"
    assert got["/webhook-1"]["alerts"][0]["annotations"]["runbook_url"] == page
    slack = got["/slack"]["attachments"][0]
    assert (slack["title"], slack["title_link"]) == ("Page: Trial in region a", page)
    assert "Trial <&>" in slack["text"].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    pager = got["/pagerduty"]
    assert pager["routing_key"] == KEY
    assert pager["payload"]["severity"] == "critical"
    assert pager["links"] == [{"href": page, "text": "Runbook"}]
    mail = got["mail"].replace("=\r\n", "")
    assert f'href=3D"{page}"' in mail
    assert "Trial &lt;&amp;&gt;" in mail
    assert "Subject: Page: Trial in region a" in mail


def region(name, *fired):
    return [{"alertname": alert, "region": name, "severity": "page", **labels} for alert, labels in fired]


def test_a_lost_primary_region_is_one_page(alertmanager):
    url, *_ = alertmanager
    members = [("MemberDown", {"instance": f"a-db{number}"}) for number in (1, 2, 3)]
    lost = region("a", ("RegionSilent", {"repo": "a"}), *members)
    lost += [{"alertname": "PrimaryRegionSilent", "region": "a", "severity": "none"}, {"alertname": "NoPrimary", "severity": "page"}]
    lost += region("b", ("RequestsFail", {}), ("RequestsSlow", {}), *((("ServiceWithoutPrimary"), {"instance": f"b-app{n}"}) for n in range(20)))
    lost += region("b", ("QueueFilling", {"instance": "b-app1"}), ("DatabaseHostSilent", {"instance": "b-app1"}))
    lost += [{"alertname": "BucketUnreachable", "repo": "a", "severity": "page"}]
    send(url, *({**labels, "case": "lost"} for labels in lost))
    hear(url, ["RegionSilent/"], case="lost", severity="page")


@pytest.mark.usefixtures("alone")
def test_a_lost_standby_region_mutes_nothing_of_the_primary_region(alertmanager):
    url, *_ = alertmanager
    fired = region("b", ("RegionSilent", {"repo": "b"}), ("MemberDown", {"instance": "b-db1"}))
    fired += region("a", ("RequestsFail", {}), ("RegionWithoutLeader", {}), ("MemberDown", {"instance": "a-db1"}))
    fired += [{"alertname": "BucketUnreachable", "repo": "a", "severity": "page"}]
    send(url, *({**labels, "case": "standby"} for labels in fired))
    wanted = ["BucketUnreachable/", "MemberDown/a-db1", "RegionSilent/", "RegionWithoutLeader/", "RequestsFail/"]
    hear(url, wanted, case="standby")


@pytest.fixture
def alone(alertmanager):
    """Resolves the alerts of earlier tests, because inhibition considers every firing alert."""
    url, *_ = alertmanager
    with urllib.request.urlopen(url, timeout=10) as answer:
        found = json.load(answer)
    ended = [{"labels": one["labels"], "endsAt": "2020-01-01T00:00:00Z", "startsAt": "2019-01-01T00:00:00Z"} for one in found]
    request = urllib.request.Request(url, json.dumps(ended).encode(), {"Content-Type": "application/json"})
    urllib.request.urlopen(request, timeout=10).close()


@pytest.mark.usefixtures("alone")
def test_a_host_that_is_down_is_one_page_and_mutes_no_other_host(alertmanager):
    url, *_ = alertmanager
    fired = [{"alertname": "HostDown", "severity": "page", "instance": "a-db2", "region": "a"}]
    fired += [
        {"alertname": alert, "severity": "ticket", "instance": "a-db2", "region": "a"} for alert in ("MemberDown", "EtcdMemberDown", "TargetDown")
    ]
    fired += [{"alertname": "MemberDown", "severity": "ticket", "instance": "a-db3", "region": "a"}]
    fired += [{"alertname": "DiskFull", "severity": "page", "instance": "a-db3", "mountpoint": "/"}]
    fired += [{"alertname": "DiskFilling", "severity": "ticket", "instance": "a-db3", "mountpoint": mount} for mount in ("/", "/var/lib/postgresql")]
    send(url, *({**labels, "case": "host"} for labels in fired))
    hear(url, ["DiskFilling/a-db3", "DiskFull/a-db3", "HostDown/a-db2", "MemberDown/a-db3"], case="host")
