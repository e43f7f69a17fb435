"""Whatever is asked of Prometheus can be asked, and names only what there is."""

import re

import pytest

import metrics
from conftest import RULES, expressions, run, tool

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


def test_a_metric_that_was_renamed_would_be_noticed():
    chosen, joined = metrics.named('sum by (region, nowhere) (rate(patroni_renamed{scope="a"}[5m])) > 1 and on (instance) up == 1')
    assert chosen == {"patroni_renamed": {"scope"}, "up": set()}
    assert joined == {"region", "nowhere", "instance"}
