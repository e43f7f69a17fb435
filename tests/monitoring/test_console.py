"""The console and the dashboards show the state first, readable for people, also when metrics are missing."""

import html
import json
import re
import subprocess
import threading
import time
import urllib.parse
import urllib.request

import pytest

from conftest import ROLE, run, tool

DASHBOARDS = sorted((ROLE / "files/dashboards").glob("*.json"))
DAY = 86400


def series(now):
    """A cluster with a fault in each place that the console colours."""
    for name, primary, leader, behind in (("a-db1", 1, 0, -4000), ("a-db2", 0, 0, 90 << 20), ("b-db1", 0, 1, -500)):
        labels = f'instance="{name}",region="{name[0]}"'
        yield f'up{{job="patroni",{labels}}}', 1
        yield f"patroni_primary{{{labels}}}", primary
        yield f"patroni_standby_leader{{{labels}}}", leader
        yield f"patroni_postgres_running{{{labels}}}", 1
        yield f"patroni_postgres_streaming{{{labels}}}", int(name == "b-db1")
        yield f"patroni_postgres_timeline{{{labels}}}", 4
        yield f"patroni_xlog_location{{{labels}}}", 1 << 30
        yield f"patroni_xlog_replayed_location{{{labels}}}", (1 << 30) - behind
        # The clock of the host is ahead of the monitoring host's.
        yield f"patroni_xlog_replayed_timestamp{{{labels}}}", now + 100
    yield 'up{job="patroni",instance="b-db2",region="b"}', 0
    yield 'pg_stat_activity_max_tx_duration{instance="a-db1",region="a",state="active"}', 5400
    yield 'node_filesystem_avail_bytes{instance="a-db1",mountpoint="/"}', 7
    yield 'node_filesystem_size_bytes{instance="a-db1",mountpoint="/"}', 100
    yield 'up{job="node",instance="a-db1",region="a"}', 1
    yield 'prometheus_build_info{instance="a-monitor",region="a"}', 1
    yield 'dob_certificate_end_timestamp_seconds{instance="a-db1",server="etcd"}', now + 20 * DAY + 7300
    yield 'dob_backup_repository_up{repo="a"}', 1
    yield 'dob_backup_last_success_timestamp_seconds{repo="a"}', now - 40 * 3600 - 40
    for alert, labels in (
        ("DiskFull", ',region="a",instance="a-db1",mountpoint="/"'),
        ("NoPrimary", ""),
        ("MemberDown", ',region="b",instance="b-db2"'),
    ):
        severity = "ticket" if alert == "MemberDown" else "page"
        yield f'ALERTS{{alertname="{alert}",alertstate="firing",severity="{severity}"{labels}}}', 1
        yield f'dob_alert_runbook{{alertname="{alert}",url="https://wiki.example.org/{alert}"}}', 1
    yield 'ALERTS{alertname="Watchdog",alertstate="firing",severity="none"}', 1


@pytest.fixture(scope="module")
def console(tmp_path_factory):
    """Gets the console from a real Prometheus, for a cluster or without data."""
    folder = tmp_path_factory.mktemp("console")
    now = int(time.time())
    lines = {}
    for name, value in series(now):
        metric = name.partition("{")[0]
        lines.setdefault(metric, [f"# TYPE {metric} gauge"]).extend(f"{name} {value} {when}" for when in range(now - 600, now + 900, 60))
    (folder / "figures").write_text("\n".join(line for one in lines.values() for line in one) + "\n# EOF\n")
    made = run(tool("promtool"), "tsdb", "create-blocks-from", "openmetrics", folder / "figures", folder / "whole")
    assert made.returncode == 0, made.stderr
    (folder / "prometheus.yml").write_text("global: {}\n")
    started = {}
    for kind in ("whole", "empty"):
        with (folder / f"{kind}.log").open("w") as log:
            options = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/{kind}", "--web.listen-address=127.0.0.1:0"]
            options += [f"--web.console.templates={ROLE}/files/consoles"]
            started[kind] = subprocess.Popen([str(tool("prometheus")), *options], stdout=log, stderr=log)

    def ask(kind="whole", **parameters):
        return read(folder / f"{kind}.log", f"/consoles/dob-api.html?{urllib.parse.urlencode(parameters)}")

    yield ask
    for process in started.values():
        process.terminate()
        process.wait(timeout=60)


def read(log, path):
    end = time.monotonic() + 120
    while time.monotonic() < end:
        text = log.read_text()
        listening = re.search(r'msg="Listening on" address=(\S+)', text)
        if listening and "Server is ready to receive web requests" in text:
            with urllib.request.urlopen(f"http://{listening[1]}{path}", timeout=60) as answer:
                return html.unescape(answer.read().decode())
        threading.Event().wait(0.1)
    raise AssertionError(log.read_text())


def plain(page):
    """The text that a person reads."""
    body = re.sub(r"<style>.*?</style>|<script>.*?</script>", "", page, flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body))


def test_the_states_stand_first_and_say_what_is_wrong(console):
    text = plain(console())
    assert text.index("primary a-db1") < text.index("The primary, last 6 hours") < text.index("Alerts")
    for state in (
        "primary a-db1 region a",
        "alerts 2 pages and 1 ticket",
        "members that run 3 of 4",
        "furthest behind 90 MiB",
        "newest backup 1d 16h ago",
    ):
        assert state in text


def test_each_alert_that_is_for_a_person_leads_to_its_page(console):
    page = console()
    for alert in ("DiskFull", "NoPrimary", "MemberDown"):
        assert page.count(f'<a href="https://wiki.example.org/{alert}">{alert}</a>') == 1
    assert "Watchdog" not in page


def test_no_lag_is_negative_and_durations_have_two_units_at_most(console):
    text = plain(console())
    assert not re.search(r"(?<![\w-])-\d", text)
    assert "in 20d 2h" in text
    assert "1h 30m" in text
    assert not re.search(r"\d[dhm] \d+[hms] \d+[ms]", text)


def test_thresholds_are_coloured(console):
    page = console()
    for shown in ("90 MiB", "1h 30m", "7%", "1d 16h ago", "no answer", "PostgreSQL is down"):
        found = re.search(rf'<(?:td|span) class="[^"]*bad">{re.escape(shown)}', page)
        assert bool(found) == (shown != "PostgreSQL is down"), shown
    assert re.search(r'class="n warn">in 20d 2h', page)


def test_a_region_can_be_chosen_and_alerts_about_both_stay(console):
    text = plain(console(region="b"))
    assert "b-db1 b standby leader, streaming" in text
    assert "a-db2" not in text
    assert "NoPrimary" in text
    assert "DiskFull" not in text
    assert "see the monitoring host of region b" in text
    assert "see the monitoring host" not in plain(console(region="a"))
    # An invalid name of a region changes no query.
    assert "b-db1" not in plain(console(region="x'} or up{region=~'.*"))


def test_the_console_of_a_prometheus_that_knows_nothing_says_so(console):
    page = console("empty")
    text = plain(page)
    for state in (
        "primary none",
        "no primary in any region",
        "alerts unknown",
        "members that run 0 of 0",
        "newest backup none",
        "no member is known",
        "no service host is known",
    ):
        assert state in text
    assert "error" not in page.lower().replace("errors logged", "")


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_begins_with_states_and_can_be_limited_to_a_region(path):
    dashboard = json.loads(path.read_text())
    panels = sorted(dashboard["panels"], key=lambda panel: (panel["gridPos"]["y"], panel["gridPos"]["x"]))
    first = [panel for panel in panels if panel["gridPos"]["y"] == 0]
    assert {panel["type"] for panel in first} == {"stat"}
    assert panels[len(first)]["type"] == "state-timeline"
    assert [one["name"] for one in dashboard["templating"]["list"]] == ["source", "region"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        asked = " ".join(target["expr"] for target in panel["targets"])
        # Logs and backups are counted by host and bucket, and the primary is the one of both regions.
        assert "$region" in asked or re.match(r"patroni_primary|sum by \(host, unit\)|clamp_min\(time\(\)", asked), panel["title"]
        thresholds = panel["fieldConfig"]["defaults"].get("thresholds")
        assert thresholds or panel["type"] != "stat", panel["title"]
        if "replayed" in asked or "time() -" in asked:
            assert "clamp_min(" in asked, panel["title"]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_the_panels_of_a_dashboard_do_not_overlap(path):
    taken = set()
    for panel in json.loads(path.read_text())["panels"]:
        x, y, w, h = (panel["gridPos"][name] for name in "xywh")
        cells = {(column, row) for column in range(x, x + w) for row in range(y, y + h)}
        assert x + w <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
