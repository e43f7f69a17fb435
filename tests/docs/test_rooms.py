"""The picture of the rooms is what the code says: no circle, and production uses no folder of tests."""

import tomllib

import pytest

import rooms
from conftest import TOP

PICTURE = tomllib.loads((TOP / "docs/pictures/rooms.toml").read_text())


def by(pairs):
    """Which files make arrows, for a reader of a failed test."""
    return {pair: sorted(rooms.arrows().get(pair, {"nothing"}))[:3] for pair in pairs}


def test_no_room_uses_itself_by_way_of_others():
    pairs = rooms.arrows().keys()
    around = {one for one, _ in pairs if one in rooms.reachable(pairs, one)}
    assert by(pair for pair in pairs if set(pair) <= around) == {}


def test_production_uses_no_folder_of_tests():
    pairs = rooms.arrows().keys()
    assert by((one, other) for one, other in pairs if one in rooms.PRODUCTION and other not in rooms.PRODUCTION) == {}


def test_the_picture_has_the_rooms_and_arrows_of_the_code():
    ends = {(arrow["from"].partition(".")[0], arrow["to"].partition(".")[0]) for arrow in PICTURE["arrow"]}
    assert by(ends ^ rooms.drawn()) == {}, "change docs/pictures/rooms.toml, then run './dev docs'"
    assert {box["id"] for box in PICTURE["box"] if box.get("kind") != "area"} == set(rooms.ROOMS.values())


def test_every_file_of_code_belongs_to_a_room():
    code = (
        path for path in rooms.files() if path.endswith((".py", ".sh", ".rs")) or ((TOP / path).is_file() and (TOP / path).read_bytes()[:2] == b"#!")
    )
    assert [path for path in code if rooms.room(path) is None and path != ".ci/run"] == []


def test_production_stands_apart_in_the_picture():
    edge = next(box["at"][0] + box["at"][2] for box in PICTURE["box"] if box["id"] == "production")
    inside = {box["id"] for box in PICTURE["box"] if box["at"][0] + box["at"][2] <= edge and box["id"] != "production"}
    assert inside | {"tools"} == rooms.PRODUCTION


# Each way in which a file may use another, so that no arrow goes unseen.
@pytest.mark.parametrize(
    ("text", "used"),
    [
        ("from lab.hosts import nspawn, plan", {"lab/hosts/__init__.py", "lab/hosts/nspawn.py", "lab/hosts/plan.py"}),
        ("from lab.hosts.nspawn import Run", {"lab/hosts/nspawn.py"}),
        ("    from tools import TOP", {"tools/__init__.py"}),
        ("import json, pathlib", set()),
        ('run(TOP / "lab/hosts/debian", "trixie")', {"lab/hosts/debian"}),
        ('run(TOP / "dev", "deb")', {"packaging/deb"}),
        ('output("./dev", "build", target)', {"packaging/build"}),
        ('spawn("-Bm", "lab.clients.load", "80")', {"lab/clients/load.py"}),
        ('say("./dev cluster down")', set()),
        ('(TOP / "tests/run").read_text()', {"tests/run"}),
    ],
)
def test_what_python_uses_is_seen(text, used):
    assert used <= set(rooms.of_python(text, False)) <= used | {"lab/__init__.py", "lab/hosts/__init__.py"}


def test_what_a_test_only_reads_is_no_arrow():
    assert set(rooms.of_python('(TOP / "tests/run").read_text()', True)) == set()


@pytest.mark.parametrize(
    ("text", "used"),
    [
        (". tools/lib.sh", {"tools/lib.sh"}),
        ('. "$here/../tools/lib.sh"', {"tools/lib.sh"}),
        ("venv=$(../tools/venv production)", {"tools/venv"}),
        ("./dev need jq", {"tools/need"}),
        ("service=$(realpath $(./dev build))", {"packaging/build"}),
        ("        package) counted packaging/tests/run ;;", {"packaging/tests/run"}),
        ("exec python3 -B -m lab.cli", {"lab/cli.py"}),
        ("cargo build --locked", {"src"}),
        ("cargo install cargo-deny", set()),
        ("die \"'./dev need python3' installs it\"", set()),
        ("# see tests/run", set()),
    ],
)
def test_what_a_script_uses_is_seen(text, used):
    assert set(rooms.of_shell(text, "ami")) == used
