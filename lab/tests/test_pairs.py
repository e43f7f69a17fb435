"""What holds when two faults meet, and that what does not hold is noticed."""

import argparse
import json
import random

import pytest

from lab.reports import pair_report
from lab.trials import campaign, faults, kills, pairs, playbooks, promises, regions
from lab.trials.fault import Fault
from lab.trials.pair import AT_ONCE, RECOVERY, Pair, each
from lab.trials.trial import Trial
from tools import TOP

MEMBERS = ("a-db1", "a-db2", "b-db1")


@pytest.mark.parametrize("names", pairs.SHORT, ids=" + ".join)
def test_a_pair_ends_with_one_primary_the_same_rows_everywhere_and_every_acknowledged_write(whole, names):
    regions.restore(whole, faults.REGION)
    trial = Trial(whole, pairs.make(whole, names, random.choice)).run() | {"fault": " + ".join(names[:2])}
    print(campaign.summary(trial))
    assert trial["broken"] == []


@pytest.mark.long
@pytest.mark.parametrize("playbook", ["switchover", "backup"])
def test_a_playbook_that_is_killed_and_run_again_ends_well(whole, playbook):
    options = argparse.Namespace(playbook=playbook, count=2, seed=None, record=None)
    kills.run(whole, options, print)


class Members:
    """A cluster of which only answers are known: of each member by statement."""

    def __init__(self, differing):
        self.differing = differing

    def answer(self, host, statement):
        known = {promises.ROWS: "7 rows, abc", promises.EPOCH: "5"}
        return self.differing.get((host, statement), known.get(statement, "t"))

    def regions(self):
        return ["a", "b"]

    def leader(self, region):
        return self.differing.get(f"leader of {region}", "a-db1" if region == "a" else None)

    def wait_until_whole(self, region):
        pass

    def places(self, kind, region):
        return [argparse.Namespace(name=name) for name in MEMBERS if name.startswith(region)]

    @property
    def machines(self):
        return {name: argparse.Namespace(place=argparse.Namespace(region=name[0])) for name in MEMBERS}


@pytest.fixture
def judged(monkeypatch):
    """What is broken in a cluster whose members differ so."""

    def judge(differing):
        cluster = Members(differing)
        monkeypatch.setattr(promises, "asked", lambda _, host, statement: cluster.answer(host, statement))
        return promises.broken(cluster)

    return judge


def test_equal_members_break_no_promise(judged):
    assert judged({}) == []


@pytest.mark.parametrize(
    ("differing", "sentence"),
    [
        ({("b-db1", promises.ROWS): "8 rows, abd"}, "b-db1 has 8 rows, abd at t, and the primary a-db1 has 7 rows, abc"),
        ({"leader of b": "b-db1"}, "not one primary, but a-db1, b-db1"),
        ({"leader of a": None}, "not one primary, but none"),
        ({("a-db2", promises.EPOCH): "4"}, "region a has several epochs: 4, 5"),
        ({("b-db1", promises.EPOCH): "6"}, "region b is of a later epoch than region a, which takes writes"),
        ({("a-db2", promises.UNDECIDED): "f"}, "a-db2 keeps the decision of a playbook"),
    ],
)
def test_a_member_that_differs_is_named(judged, differing, sentence):
    assert judged(differing) == [sentence]


def test_a_member_that_never_comes_to_the_primarys_position_is_named(judged, monkeypatch):
    monkeypatch.setattr(promises, "PATIENCE_S", 0)
    (sentence,) = judged({("b-db1", "select pg_last_wal_replay_lsn() >= 't'"): "f"})
    assert sentence.startswith("b-db1 has no rows to show (not within 0 s: b-db1 replays up to t)")


def test_a_seed_gives_one_list_of_pairs_each_once():
    first, again, other = (pairs.draw(random.Random(seed), 30) for seed in (1, 1, 2))
    assert first == again != other
    assert len(set(first)) == 30
    assert len(pairs.draw(random.Random(1), len(pairs.ALL) + 1)) == len(pairs.ALL) + 1


def test_every_fault_is_in_pairs_and_every_pair_that_is_left_out_has_a_reason():
    assert {name for names in pairs.ALL for name in names[:2]} == faults.TABLE.keys()
    assert set(pairs.SHORT) <= set(pairs.ALL)
    assert pairs.reason(faults.PowerLost, faults.HostKilled, AT_ONCE) and not pairs.reason(faults.PowerLost, faults.HostKilled, RECOVERY)
    assert pairs.reason(faults.RegionCut, faults.DiskFull, AT_ONCE) and not pairs.reason(faults.RegionCut, faults.HostKilled, AT_ONCE)


def test_a_number_of_a_seed_is_one_trial_whatever_was_tried_before():
    options = argparse.Namespace(pairs=True, count=12, only=None, rounds=1)
    longer = argparse.Namespace(pairs=True, count=30, only=None, rounds=1)
    assert campaign.planned(options, random.Random(3)) == campaign.planned(longer, random.Random(3))[:12]


def test_each_step_is_taken_though_one_before_failed():
    taken = []

    def fails():
        raise TimeoutError("the first")

    with pytest.raises(TimeoutError, match="the first"):
        each([fails, lambda: taken.append("second")])
    assert taken == ["second"]


@pytest.mark.parametrize(("home", "order"), [("a", ["region", "host"]), ("b", ["host", "region"])])
def test_a_lost_region_recovers_after_the_region_that_it_follows_and_before_its_own_hosts(home, order):
    recovered = []

    def part(name, home, commanded):
        return argparse.Namespace(home=home, commanded=commanded, recover=lambda: recovered.append(name))

    pair = object.__new__(Pair)
    pair.first, pair.second = part("region", "a", 5.0), part("host", home, None)
    pair.recover()
    assert recovered == order


def test_every_fault_of_the_table_has_a_description_and_can_be_ended():
    for name, fault in faults.TABLE.items():
        assert fault.name == name and fault.what and callable(fault.begin)
        assert fault.passes or fault.end is not Fault.end or fault.recover is not Fault.recover, name


def test_each_playbook_that_can_be_killed_is_there():
    assert [subject.name for subject in playbooks.TABLE.values() if not (TOP / "ansible" / subject(None, None).file).exists()] == []


def test_the_page_of_pairs_tells_what_broke_and_which_alert_leads_where(tmp_path):
    usual = {"victim": "a-db1", "acknowledged": 1000, "writes_failed": 2, "reads_failed": 0, "lost": 0, "uncarried": 3, "in_sync": 40.2}
    alerts = {"MemberDown": "alerts/member"}
    usual["bare_gap"] = 33.3
    trials = [
        {"number": 1, "names": ["host-killed", "zone-cut", AT_ONCE], "gap": 21.0, **usual, "alerts": alerts, "notes": [], "broken": []},
        {"number": 2, "names": ["backup", "switchover", AT_ONCE], "broken": ["not within 300 s: region a whole\nmore"]},
        {"number": 3, "names": ["host-killed"], "gap": 20.0, **usual, "alerts": {}, "notes": [], "broken": []},
    ]
    known = {
        "command": "./dev cluster faults --pairs --seed 7",
        "date": "2026-01-01",
        "seed": 7,
        "cores": 2,
        "versions": {"patroni": "4"},
        "trials": trials,
    }
    (tmp_path / "pairs.json").write_text(json.dumps(known))
    pair_report.main(tmp_path, [tmp_path / "pairs.json"])
    lines = (tmp_path / "pairs.md").read_text().splitlines()
    alert = "MemberDown → [alerts/member](runbooks/alerts/member.md)"
    assert f"| 1 | host-killed | zone-cut | at once | a-db1 | 21.0 | 33.3 | 1,000 | 2 | 0 | 0 | 3 | 40 | {alert} | yes |" in lines
    assert "**Promises kept** in 1 of 2 pairs. Broken:" in lines
    assert "- number 2 of seed 7: not within 300 s: region a whole" in lines
