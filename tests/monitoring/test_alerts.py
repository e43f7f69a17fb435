"""Every alert fires when it should, says what is wrong, stays quiet when it should, and leads to a page."""

import pathlib
import re

import pytest
import yaml

from conftest import TOP, alerts

RULES = {rule["alert"]: (path, rule) for path, rule in alerts()}
CASES = {}
for cases in sorted(pathlib.Path(__file__).with_name("cases").glob("*.yml")):
    CASES |= yaml.safe_load(cases.read_text())
PAGES = sorted((TOP / "docs/runbooks/alerts").glob("*.md"))


def trial(alert, case, fires):
    """One case, in promtool's format."""
    every, rule = case.get("every", "15s"), RULES[alert][1]
    expected = []
    if fires:
        labels = {"severity": rule["labels"]["severity"], **case.get("labels", {})}
        annotations = {"summary": case["summary"], "runbook_url": rule["annotations"]["runbook_url"]}
        expected = [{"exp_labels": labels, "exp_annotations": annotations}]
    series = [{"series": name, "values": str(values)} for name, values in (case.get("series") or {}).items()]
    test = {"eval_time": case["at"], "alertname": alert, "exp_alerts": expected}
    return {"interval": every, "input_series": series, "alert_rule_test": [test]}


@pytest.mark.parametrize("alert", RULES)
def test_an_alert_fires_when_it_should_and_only_then(alert, checked):
    path, _ = RULES[alert]
    cases = CASES[alert]
    trials = [trial(alert, case, True) for case in cases["fires"]] + [trial(alert, case, False) for case in cases.get("quiet", [])]
    # Each case chooses the interval of its rule.
    for interval in {one["interval"] for one in trials}:
        tests = [one for one in trials if one["interval"] == interval]
        said = checked(["test", "rules"], {"rule_files": [str(path)], "evaluation_interval": interval, "tests": tests})
        assert said.returncode == 0, said.stdout + said.stderr


def test_every_alert_was_seen_quiet_but_the_one_that_always_fires():
    assert [alert for alert in RULES if not CASES[alert].get("quiet")] == ["Watchdog"]
    assert CASES.keys() == RULES.keys()


@pytest.mark.parametrize("alert", RULES)
def test_an_alert_leads_to_a_page_that_names_it(alert):
    _, rule = RULES[alert]
    assert rule["labels"]["severity"] in ("page", "ticket", "none")
    page = TOP / rule["annotations"]["runbook_url"]
    assert page in PAGES
    assert re.search(rf"\b{alert}\b", page.read_text())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_an_alert_and_what_a_person_on_call_needs(page):
    text = page.read_text()
    assert any(rule["annotations"]["runbook_url"].endswith(f"/{page.name}") for _, rule in RULES.values())
    named = re.search(r"\*\*Alerts?[.*]*\*?\*?(.*?)\n\n", text, re.S)[1]
    assert set(re.findall(r"\b([A-Z][a-z]+(?:[A-Z][a-z]+)+|Watchdog)\b", named)) & RULES.keys()
    for part in ("**What it means.**", "**Look", "**It worked**", "**To undo.**"):
        assert part in text
    assert len(text.splitlines()) <= 36


def test_the_checklist_names_alerts_that_exist_and_a_reason_where_there_is_none():
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]*)\|$", (TOP / "ansible/roles/monitoring/mixins.md").read_text(), re.M)
    rows = [(theirs, ours, why) for theirs, ours, why in rows if ours != "here"]
    assert len(rows) > 40
    for theirs, ours, why in rows:
        assert why.strip() if ours == "none" else set(ours.split(", ")) <= RULES.keys(), theirs
