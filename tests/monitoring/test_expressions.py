"""Every expression for Prometheus is valid, and names only metrics that exist."""

import re

import pytest

import metrics
from conftest import RULES, alerts, expressions, run, tool

ASKED = dict(expressions())
LABELS, RARE = metrics.known()


def test_promtool_finds_nothing_in_the_rules():
    said = run(tool("promtool"), "check", "rules", "--lint-fatal", "--lint=all", *RULES)
    assert said.returncode == 0, said.stderr + said.stdout


def test_page_and_dashboards_ask_what_can_be_asked(checked):
    rules = [{"record": f"asked_{number}", "expr": expression} for number, expression in enumerate(ASKED.values())]
    said = checked(["check", "rules", "--lint=none"], {"groups": [{"name": "asked", "rules": rules}]})
    assert said.returncode == 0, said.stderr + said.stdout
    assert len(rules) > 100


@pytest.mark.parametrize("where", ASKED)
def test_every_metric_and_label_is_one_that_was_seen(where):
    chosen, joined = metrics.named(ASKED[where])
    assert chosen.keys() - LABELS.keys() == set()
    for name, labels in chosen.items():
        assert labels - LABELS[name] == set(), name
    made = set(re.findall(r'label_replace\([^"]*"(\w+)"', ASKED[where]))
    there = set().union(*(LABELS[name] for name in chosen), made)
    assert joined - there == set()


def test_every_metric_in_the_list_is_asked_for():
    asked = set().union(*(metrics.named(expression)[0] for expression in ASKED.values()))
    assert LABELS.keys() - metrics.OWN.keys() - asked == set()


# Metrics of daily or weekly jobs: each has a metric with the job's time, whose absence is an alert.
WITH_A_TIME = {"dob_backup_verify_ok", "dob_backup_pages_damaged", "dob_pages_ok", "dob_restore_drill_ok"}


def test_the_absence_of_whatever_an_alert_is_made_of_is_itself_an_alert():
    needed, noticed = set(), set()
    for path, rule in alerts():
        noticed |= set(re.findall(r"absent(?:_over_time)?\((\w+)", rule["expr"]))
        if path.name != "absent.yml":
            needed |= metrics.named(rule["expr"])[0].keys()
    assert needed - noticed - RARE - WITH_A_TIME - {"ALERTS"} == set()


def test_the_absence_of_each_job_that_an_alert_asks_for_is_an_alert():
    asked = [job for _, rule in alerts() for found in re.findall(r'up\{job=~?"([^"]+)"\}', rule["expr"]) for job in found.split("|")]
    noticed = {job for _, rule in alerts() for job in re.findall(r'absent\(up\{job="(\w+)"\}\)', rule["expr"])}
    # Only for service hosts from images; if the service is known, so is its host.
    assert set(asked) - noticed == {"service-node"}


def test_a_metric_that_was_renamed_would_be_noticed():
    chosen, joined = metrics.named('sum by (region, nowhere) (rate(patroni_renamed{scope="a"}[5m])) > 1 and on (instance) up == 1')
    assert chosen == {"patroni_renamed": {"scope"}, "up": set()}
    assert joined == {"region", "nowhere", "instance"}
