"""What the start gate of Patroni decides, from what it sees of both regions."""

import importlib.machinery
import importlib.util

import pytest

from tools import TOP

GATE = str(TOP / "ansible/roles/patroni/files/region-gate")
STANDBY = {"standby_cluster": {"host": "10.0.1.11"}}
SILENT, LEADS, FOLLOWS = set(), {"leader", "quorum_standby"}, {"standby_leader", "replica"}


@pytest.fixture(scope="module")
def gate():
    loader = importlib.machinery.SourceFileLoader("region_gate", GATE)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("region_gate", loader))
    loader.exec_module(module)
    return module


def region(gate, settings, roles=SILENT, epoch=0, first=True, others=("10.1.1.11",), peers_run=False):
    """A host of region a that sees this: its own settings in etcd, the other region's roles and epoch, whether a peer runs Patroni."""
    seen = object.__new__(gate.Region)
    seen.region, seen.first, seen.others, seen.peers = "a", first, list(others), ["10.0.2.11", "10.0.3.11"]
    seen.settings, seen.other = lambda: settings, lambda: (roles, epoch)
    seen.ask = lambda url, body=None: {"state": "running"} if peers_run else None
    return seen


@pytest.mark.parametrize(
    ("seen", "starts", "reason"),
    [
        ({"settings": None}, False, "etcd of region a does not answer"),
        ({"settings": None, "roles": FOLLOWS, "peers_run": True}, False, "etcd of region a does not answer"),
        # A standby region takes no write, whatever the other one is.
        ({"settings": STANDBY}, True, "region a is a standby"),
        ({"settings": STANDBY, "roles": LEADS, "epoch": 9}, True, "region a is a standby"),
        # The only region.
        ({"settings": {}, "others": ()}, True, "there is no other region"),
        # A cluster that is made: the first region leads, the other needs one to copy.
        ({"settings": {}}, True, "region a is new, and the first"),
        ({"settings": {}, "first": False}, False, "region a is new, and a standby"),
        ({"settings": {}, "first": False, "roles": FOLLOWS}, False, "region a is new, and a standby"),
        ({"settings": {}, "first": False, "roles": LEADS}, True, "region a is new, and a standby"),
        # The first region, whose etcd was emptied while the other one took over.
        ({"settings": {}, "roles": LEADS}, False, "the other region takes writes"),
        # It took writes, and the other region may have replaced it.
        ({"settings": {"ttl": 20}, "roles": LEADS, "epoch": 7}, False, "the other region takes writes"),
        ({"settings": {"region_epoch": 8}, "roles": LEADS, "epoch": 7}, False, "the other region takes writes"),
        ({"settings": {"region_epoch": 7}, "roles": LEADS, "epoch": 7, "peers_run": True}, True, "region a runs already"),
        ({"settings": {"region_epoch": 7}, "roles": FOLLOWS, "epoch": 7}, True, "the other region is a standby"),
        ({"settings": {"region_epoch": 7}, "roles": SILENT, "peers_run": True}, True, "region a runs already"),
        # Both were down: only an operator can tell which one is right.
        ({"settings": {"region_epoch": 7}, "roles": SILENT}, False, "the other region does not say who takes writes"),
        ({"settings": {"region_epoch": 7}, "roles": {"replica"}}, False, "the other region does not say who takes writes"),
    ],
)
def test_patroni_starts_only_where_that_cannot_make_a_second_primary(gate, monkeypatch, tmp_path, seen, starts, reason):
    monkeypatch.setattr(gate, "DECIDED", tmp_path / "decided")
    monkeypatch.setattr(gate, "DECIDED_ONCE", tmp_path / "once")
    go, said = region(gate, **seen).decide()
    assert (go, reason in said) == (starts, True), said


@pytest.mark.parametrize("settings", [None, {}, STANDBY, {"region_epoch": 7}])
def test_patroni_starts_where_an_operator_decided_so(gate, monkeypatch, tmp_path, settings):
    monkeypatch.setattr(gate, "DECIDED", tmp_path / "decided")
    gate.DECIDED.touch()
    assert region(gate, settings, LEADS, 9).decide()[0]


class StoodDown(Exception):
    """What a test sees of a region that stands down."""


@pytest.fixture
def watching(gate, monkeypatch, tmp_path):
    """One round of the watch on a primary, beside a region that was promoted later."""
    for name in ("DECIDED", "DECIDED_ONCE"):
        monkeypatch.setattr(gate, name, tmp_path / name)

    def look(settings, roles=LEADS, epoch=8):
        seen = region(gate, settings, roles, epoch, peers_run=True)
        seen.stand_down = lambda: (_ for _ in ()).throw(StoodDown)
        seen.look_after()

    return look


def test_the_decision_of_a_killed_playbook_lets_patroni_start(gate, watching):
    gate.DECIDED_ONCE.touch()
    assert region(gate, {"region_epoch": 7}, SILENT).decide()[0]


@pytest.mark.parametrize("settings", [{}, None])
def test_the_decision_of_a_playbook_holds_until_the_new_cluster_is_there(gate, watching, settings):
    gate.DECIDED_ONCE.touch()
    watching(settings)
    assert gate.DECIDED_ONCE.exists()


@pytest.mark.parametrize("settings", [{"region_epoch": 9}, STANDBY])
def test_the_decision_of_a_killed_playbook_ends_when_the_new_cluster_is_there(gate, watching, settings):
    gate.DECIDED_ONCE.touch()
    watching(settings)
    assert not gate.DECIDED_ONCE.exists()


def test_a_region_with_the_decision_of_a_killed_playbook_stands_down_for_one_that_was_promoted_later(gate, watching):
    gate.DECIDED_ONCE.touch()
    with pytest.raises(StoodDown):
        watching({"region_epoch": 7})


def test_a_region_does_not_stand_down_against_the_decision_of_an_operator(gate, watching):
    gate.DECIDED.touch()
    watching({"region_epoch": 7})
    assert gate.DECIDED.exists()


@pytest.mark.parametrize(
    ("settings", "roles", "epoch", "replaced"),
    [
        ({"region_epoch": 7}, LEADS, 8, True),
        ({}, LEADS, 1, True),
        ({"region_epoch": 7}, LEADS, 7, False),
        ({"region_epoch": 8}, LEADS, 7, False),
        ({"region_epoch": 7}, FOLLOWS, 8, False),
        ({"region_epoch": 7}, SILENT, 0, False),
        # A standby has nothing to stop.
        ({"region_epoch": 7, **STANDBY}, LEADS, 8, False),
    ],
)
def test_a_region_stands_down_only_for_a_primary_that_was_promoted_later(gate, settings, roles, epoch, replaced):
    assert region(gate, settings).replaced(settings, roles, epoch) == replaced
