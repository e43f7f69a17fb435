"""Known vulnerabilities are found in what is locked; and every tool that finds or builds something is of one version."""

import json
import os
import re
import subprocess
import sys

import pytest

from conftest import TOP, tracked

RUSTSEC = """```toml
[advisory]
id = "RUSTSEC-2026-9901"
package = "{package}"
date = "2026-11-20"
url = "https://example.org/advisories/1"
categories = ["memory-corruption"]

[versions]
patched = [">= {fixed}"]
```

# A page that was freed may be read

A reader that outlives a compaction reads a page that was given to a writer.
"""


def osv(package, fixed):
    return {
        "id": "PYSEC-2026-9902", "schema_version": "1.6.0", "summary": "A redirect carries the credentials to another host",
        "affected": [{
            "package": {"name": package, "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": fixed}]}],
        }],
    }  # fmt: skip


@pytest.fixture
def advise(tmp_path):
    """Runs ./dev advisories against a recorded database of each kind, with one advisory for a package and its fixed version."""
    servers = []

    def look(crate="redb", crate_fixed="0.0.1", python="urllib3", python_fixed="0.0.1", **changes):
        crates, records = tmp_path / "advisory-db", tmp_path / "osv"
        (crates / "crates" / crate).mkdir(parents=True)
        (crates / "crates" / crate / "RUSTSEC-2026-9901.md").write_text(RUSTSEC.format(package=crate, fixed=crate_fixed))
        for command in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-qm", "advisories"]):
            subprocess.run(["git", "-C", crates, "-c", "user.name=x", "-c", "user.email=x@example.org", *command], check=True)
        records.mkdir()
        (records / "PYSEC-2026-9902.json").write_text(json.dumps(osv(python, python_fixed)))
        server = subprocess.Popen([sys.executable, "-B", TOP / "tests/docs/advisories.py", records], stdout=subprocess.PIPE, text=True)
        servers.append(server)
        environment = {
            "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.file://{crates}.insteadOf",
            "GIT_CONFIG_VALUE_0": "https://github.com/RustSec/advisory-db",
            "PIP_AUDIT_OSV_URL": f"http://127.0.0.1:{server.stdout.readline().strip()}/v1/query",
        }  # fmt: skip
        return subprocess.run([TOP / "dev", "advisories"], env=os.environ | environment | changes, capture_output=True, text=True, check=False)

    yield look
    for server in servers:
        server.kill()
        server.wait()


# cargo-deny is built for minutes where it is not yet: `./dev advisories` runs in a workflow of its own.
@pytest.mark.long
def test_without_an_advisory_for_what_is_locked_it_is_silent_and_looks_at_every_lock(advise):
    ended = advise()
    assert (ended.returncode, ended.stderr) == (0, ""), ended
    looked = set(re.findall(r"^== (.*)$", ended.stdout, re.M))
    locks = {str(path.relative_to(TOP)) for path in tracked("*Cargo.lock") if path.with_suffix(".toml").exists()}
    pins = {str(path.relative_to(TOP)) for path in tracked("*.txt") if "--hash=sha256:" in path.read_text()}
    assert looked == locks | pins and {"Cargo.lock", "tools/lock.txt"} <= looked


@pytest.mark.long
def test_an_advisory_is_found_wherever_it_is_locked_with_its_fix(advise):
    ended = advise(crate_fixed="999.0.0", python_fixed="999.0")
    assert ended.returncode == 1 and ended.stderr.count("\n") == 1
    assert "RUSTSEC-2026-9901" in ended.stdout and "Upgrade to >=999.0.0" in ended.stdout
    assert re.search(r"^PYSEC-2026-9902: urllib3 [\d.]+: A redirect carries .* Fixed in: 999.0$", ended.stdout, re.M)
    locked = {str(path.relative_to(TOP)) for path in tracked("*Cargo.lock") if '\nname = "redb"\n' in path.read_text()}
    pinned = {str(path.relative_to(TOP)) for path in tracked("*.txt") if re.search(r"^urllib3==", path.read_text(), re.M)}
    assert locked | pinned == set(re.search(r"known vulnerabilities in (.*), see above", ended.stderr)[1].split())


@pytest.mark.long
@pytest.mark.parametrize(
    ("change", "said"),
    [({"GIT_CONFIG_KEY_0": "url.file:///nothing.insteadOf"}, "RustSec cannot be fetched"), ({"PIP_AUDIT_OSV_URL": "http://127.0.0.1:1"}, "OSV for")],
)
def test_advisories_that_cannot_be_asked_for_are_one_sentence_and_no_clean_bill(advise, change, said):
    ended = advise(**change)
    assert ended.returncode == 1 and said in ended.stderr and ended.stderr.count("\n") == 1, ended.stderr


def scripts():
    """The files that are shell scripts."""
    return [
        path for path in tracked("*") if path.is_file() and path.read_bytes()[:60].startswith((b"#!/usr/bin/env bash", b"#!/bin/sh", b"#!/bin/bash"))
    ]


def test_every_tool_that_a_script_installs_is_of_one_version():
    for path in scripts():
        for line in re.sub(r"\\\n\s*", " ", path.read_text()).splitlines():
            if re.search(r"\bcargo install\b", line):
                assert "--locked" in line and "--version" in line, f"{path}: {line}"
            if re.search(r"\bpip3?\b.* install\b", line):
                assert "--require-hashes" in line, f"{path}: {line}"
            assert not re.search(r"\b(npm (install|i)|npx|pipx install|go install)\b", line), f"{path}: {line}"


def test_a_tool_of_another_version_is_not_taken(tmp_path):
    """The one that is on the path is older; the one that is meant is installed beside the cache."""
    for name, script in {"cargo-deny": "echo cargo-deny 0.1.0", "cargo": f'echo "$*" >>{tmp_path}/asked'}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    ended = subprocess.run([TOP / "tools/cargo-tool", "cargo-deny", "0.20.2"], env=environment, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == f"{tmp_path}/cache/dob-api/cargo-deny-0.20.2/bin/cargo-deny"
    assert "--version 0.20.2 cargo-deny" in (tmp_path / "asked").read_text()
