"""What is told of recorded faults is what was recorded."""

import json
import random
import xml.etree.ElementTree

import pytest

from lab.clients.ledger import Ledger, LibpqLedger
from lab.reports import fault_report
from lab.trials import campaign

KINDS = {
    "host-killed": {"what": "a host is killed", "aim": 20, "since": None},
    "region-lost": {"what": "a region is lost", "aim": 5, "since": "the command"},
    "switchover": {"what": "a switchover", "aim": 3, "since": None},
}


def trial(number, fault, gap, **what):
    usual = {"victim": "a-db1", "reads": 20, "reads_failed": 0, "acknowledged": 1000, "writes_failed": 0, "lost": 0, "uncarried": 0, "unread": 0}
    events = [[0, "begins"], [gap + 1, "ends"], [gap + 5, "in sync"]]
    seconds = [[second, 0 if second < gap else 100, 50, 0, 2.5, 30.0] for second in range(-2, 40) if second != 7]
    course = {"events": events, "leaders": [[-5, "a-db1"], [gap, "a-db2"]], "bare_gap": gap + 10, "seconds": seconds, "broken": []}
    return {"number": number, "fault": fault, "gap": gap, "in_sync": 4.0, **usual, **course, **what}


@pytest.fixture
def report(tmp_path):
    """Writes the page of some trials and returns its lines."""

    def write(*trials):
        known = {"command": "./dev cluster faults --seed 7", "seed": 7, "date": "2026-01-01", "cores": 2, "versions": {"patroni": "4"}}
        (tmp_path / "faults.json").write_text(json.dumps(known | {"faults": KINDS, "trials": trials}))
        fault_report.main(tmp_path, [tmp_path / "faults.json"])
        return (tmp_path / "faults.md").read_text().splitlines()

    return write


def test_a_row_sums_up_the_rounds_of_a_fault(report):
    lines = report(trial(1, "host-killed", 17), trial(2, "host-killed", 21.5, lost=2, in_sync=9.0), trial(3, "host-killed", 18, reads_failed=1))
    assert "| [host-killed](#host-killed) | 3 | 17.0, 18.0, 21.5 | 27.0, 28.0, 31.5 | ≤ 20: 2 of 3 | 1 | 3,000 | 0 | 2 | 4.0, 9.0 |" in lines
    assert any("Number 3 of seed 7, the median" in line for line in lines)


def test_a_trial_that_broke_a_promise_is_not_shown_as_the_typical_one(report):
    lines = report(trial(1, "switchover", 2), trial(2, "switchover", 3, broken=["two primaries"]), trial(3, "switchover", 4))
    assert any("Number 1 of seed 7, the median" in line for line in lines)


def test_a_broken_promise_is_told_with_seed_and_number_though_nothing_was_measured(report):
    lines = report(trial(1, "switchover", 2), {"number": 2, "fault": "switchover", "broken": ["not within 300 s: region a whole\nmore"]})
    assert "**Promises kept** in 1 of 2 faults. Broken:" in lines
    assert "- switchover, seed 7, number 2: not within 300 s: region a whole" in lines


def test_writes_that_were_not_carried_are_told(report):
    lines = report(trial(1, "region-lost", 4, uncarried=12), trial(2, "region-lost", 4))
    assert any("not reached the other region: 0.0, 6.0, 12.0 (min" in line for line in lines)
    assert any("≤ 5 from the command: 2 of 2" in line for line in lines)


def test_the_alerts_that_fired_are_told_with_their_pages(report):
    fired = {"MemberDown": "alerts/member"}
    lines = report(trial(1, "switchover", 2, alerts=fired), trial(2, "switchover", 2, alerts={}), trial(3, "switchover", 2, alerts=fired))
    assert any("MemberDown in 2, to [alerts/member](runbooks/alerts/member.md)." in line for line in lines)


def test_pairs_are_left_to_their_own_page(report):
    lines = report(trial(1, "switchover", 2), trial(2, "switchover + host-killed, at once", 2, broken=["two primaries"]))
    assert "**Promises kept** in 1 of 1 faults." in lines


def test_histories_are_summed_up(report):
    history = {"users": 10, "not checked": 1, "operations": 1500, "unknown": 3, "given up": 40, "marked reads": 7, "wrong": {}}
    lines = report(trial(1, "switchover", 2, history=history), trial(2, "switchover", 2, history=history | {"wrong": {"ada": []}}))
    said = next(line for line in lines if line.startswith("**Histories**"))
    assert "20 users through 2 faults: 3,000 operations checked, 1 histories not linearizable. 6 writes" in said
    assert "80 more because their client gave up" in said
    assert "14 reads were marked" in said


def test_a_picture_shows_each_leader_and_every_event(report, tmp_path):
    report(trial(1, "host-killed", 17))
    picture = xml.etree.ElementTree.parse(tmp_path / "faults/host-killed.svg")
    texts = {element.text for element in picture.iter() if element.tag.endswith("text")}
    assert {"a-db1", "a-db2", "fault starts", "fault ends", "all in sync", "150 /s"} <= texts


@pytest.mark.parametrize("gap", [0, 17, 29])
def test_every_text_of_a_picture_stays_inside_its_frame(report, tmp_path, gap):
    report(trial(1, "host-killed", gap))
    picture = xml.etree.ElementTree.parse(tmp_path / "faults/host-killed.svg")
    marks = [element for element in picture.iter() if element.text in ("fault starts", "fault ends", "all in sync")]
    assert len(marks) == 3
    for mark in marks:
        width = 7.6 * len(mark.text)
        left = float(mark.get("x")) - (width if mark.get("text-anchor") == "end" else 0)
        assert left >= 0 and left + width <= 900, mark.text


def test_a_seed_gives_one_order_with_each_fault_once_a_round():
    names = list(KINDS)
    first, again, other = (campaign.order(names, 20, random.Random(seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert all(sorted(first[begin : begin + 3]) == sorted(names) for begin in range(0, 60, 3))


def test_the_gap_after_a_command_is_not_over_with_an_acknowledgement_that_was_under_way():
    ledger = object.__new__(Ledger)
    ledger.requests = [["PUT", end - 0.02, end, 204, "someone", "2000-01-01"] for end in (1.0, 2.0, 2.01, 9.0, 9.5)]
    assert ledger.gap() == pytest.approx(6.99)
    assert ledger.gap(since=1.99) == pytest.approx(7.01)


def test_a_plain_client_that_does_not_come_back_waits_until_the_end(report):
    ledger = object.__new__(LibpqLedger)
    ledger.requests = [["PUT", end - 0.02, end, 204, "someone", "2000-01-01"] for end in (1.0, 2.0)]
    ledger.over = 30.0
    assert ledger.gap() == pytest.approx(28)


def test_a_record_from_before_there_was_a_plain_client_is_told_without_it(report):
    older = {name: value for name, value in trial(1, "host-killed", 17).items() if name != "bare_gap"}
    assert any("| 1 | 17.0, 17.0, 17.0 | – | ≤ 20: 1 of 1 |" in line for line in report(older))
