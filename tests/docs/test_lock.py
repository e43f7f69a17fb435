"""Every tool has one version, which pyproject.toml allows and tools/lock.txt pins; nothing is installed without its hash."""

import base64
import hashlib
import re
import shutil
import subprocess
import tomllib
import zipfile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from conftest import TOP, tracked
from tools.part import LOCK, packages, part

PYPROJECT = tomllib.loads((TOP / "pyproject.toml").read_text())
GROUPS = PYPROJECT["dependency-groups"]
KNOWN = packages(LOCK.read_text())
# The generators of clients are two on purpose: the older one writes the strictest client.
OLDER = "tests/generated-clients/older.txt"


def requirements(group):
    """What a group names, and what the groups name that it includes."""
    for wanted in GROUPS[group]:
        if isinstance(wanted, dict):
            yield from requirements(wanted["include-group"])
        else:
            yield Requirement(wanted)


@pytest.mark.parametrize("group", GROUPS)
def test_the_lock_holds_what_a_group_names(group):
    named = {canonicalize_name(requirement.name): requirement for requirement in requirements(group)}
    locked = {name for name, (_, needed_by) in KNOWN.items() if f"pyproject.toml:{group}" in needed_by}
    assert locked == named.keys(), "run './dev lock'"
    for name, requirement in named.items():
        version = re.match(r"[^ ]+==([^ ]+)", KNOWN[name][0])[1]
        assert version in requirement.specifier, f"{name} {version}: run './dev lock'"


def test_everything_in_the_lock_is_needed_by_a_group():
    assert set().union(*(part(KNOWN, group) for group in GROUPS)) == KNOWN.keys()


def test_each_package_has_one_version_and_hashes_and_the_lock_names_no_index():
    text = LOCK.read_text()
    pins = re.findall(r"^([\w.-]+)==", text, re.M)
    assert len(pins) == len(set(pins)) == len(KNOWN)
    for name, (pin, _) in KNOWN.items():
        assert re.fullmatch(r"\S+==\S+( ; [^\\\n]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+\n", pin), name
    assert not re.search(r"://|index", text)


def test_no_other_list_pins_a_package():
    lists = [path.relative_to(TOP).as_posix() for path in tracked("*.txt") if re.search(r"^[\w.-]+==\d", path.read_text(), re.M)]
    assert sorted(lists) == sorted([OLDER, "tools/lock.txt"])
    assert re.fullmatch(r"(#.*\n)+openapi-generator-cli==\S+( \\\n    --hash=sha256:[0-9a-f]{64})+\n", (TOP / OLDER).read_text())


# How a script names a group.
ASKED = r'^tools/venv ([a-z]+) >/dev/null$|\$\(\S*tools/venv"? ([a-z]+)\)|lab/hosts/prepare ([a-z]+)$'


def test_scripts_ask_for_groups_that_there_are_and_each_group_is_asked_for():
    asked = set()
    for path in tracked("*"):
        if path.is_file() and path.read_bytes().startswith(b"#!/usr/bin/env bash"):
            asked |= set(re.findall(ASKED, path.read_text(), re.M))
    assert {next(filter(None, found)) for found in asked} == GROUPS.keys()


@pytest.mark.parametrize("script", ["ansible/play", "ami/publish", "ami/roll-out", "ami/updates", "terraform/infra", "lab/cluster"])
def test_production_installs_the_group_production_alone(script):
    assert set(re.findall(r'tools/venv"? (\w+)', (TOP / script).read_text())) == {"production"}


def test_production_brings_no_tool_of_the_tests():
    assert not {"pytest", "moto", "ansible-lint", "ruff", "checkov"}.intersection(part(KNOWN, "production"))


@pytest.fixture
def wheel(tmp_path):
    """A package that pip can install, and its hash."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    file = folder / "thing-1.0-py3-none-any.whl"
    files = {"thing.py": b"", "thing-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n"}
    files["thing-1.0.dist-info/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(file, "w") as archive:
        rows = []
        for name, content in files.items():
            archive.writestr(name, content)
            rows.append(f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip('=')},{len(content)}\n")
        archive.writestr("thing-1.0.dist-info/RECORD", "".join([*rows, "thing-1.0.dist-info/RECORD,,\n"]))
    return file, hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.fixture
def install(tmp_path, wheel):
    """Installs the package by a copy of tools/venv whose lock holds this line."""
    for file in ("tools/venv", "tools/lib.sh", "tools/part.py", "dev", "tools/need"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        shutil.copy(TOP / file, tmp_path / file)

    def run(line):
        (tmp_path / "tools/lock.txt").write_text(f"# A head.\n{line}\n    # via (pyproject.toml:some)\n")
        environment = {
            "PATH": "/usr/bin:/bin",
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(wheel[0].parent),
        }
        return subprocess.run([tmp_path / "tools/venv", "some"], env=environment, capture_output=True, text=True, check=False)

    return run


def test_a_package_whose_hash_is_wrong_or_missing_is_not_installed(install, wheel):
    for line in ("thing==1.0", f"thing==1.0 \\\n    --hash=sha256:{'0' * 64}"):
        refused = install(line)
        assert refused.returncode != 0 and "hash" in refused.stderr.lower() and refused.stdout == "", refused
    done = install(f"thing==1.0 \\\n    --hash=sha256:{wheel[1]}")
    assert done.returncode == 0, done.stderr
    assert subprocess.run([f"{done.stdout.strip()}/bin/python", "-c", "import thing"], check=False).returncode == 0


def test_a_group_that_there_is_not_is_refused():
    refused = subprocess.run([TOP / "tools/venv", "nosuch"], capture_output=True, text=True, check=False)
    assert refused.returncode == 64 and "nosuch" in refused.stderr
