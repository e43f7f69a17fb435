"""The packages themselves: what they hold, and that they say what the binary says."""

import hashlib
import json
import os
import re
import shutil

import pytest

from conftest import TOP, VERSION
from lab.hosts import nspawn

ARCHITECTURES = ("amd64", "arm64")


@pytest.fixture(scope="session")
def help_text(binaries):
    return nspawn.run(binaries["amd64"], "--help").stdout


@pytest.fixture
def unpacked(debs, tmp_path):
    def unpack(arch):
        nspawn.run("dpkg-deb", "--raw-extract", debs[arch], tmp_path / arch)
        return tmp_path / arch

    return unpack


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_lintian_finds_neither_errors_nor_warnings(debs, arch):
    found = nspawn.run("lintian", "--allow-root", "--fail-on=error,warning", debs[arch], check=False)
    assert (found.returncode, found.stdout) == (0, ""), found.stdout + found.stderr


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_binary_is_static_and_the_package_holds_it_unchanged(binaries, unpacked, arch):
    inside = unpacked(arch) / "usr/bin/dob-api"
    assert inside.read_bytes() == binaries[arch].read_bytes()
    headers = nspawn.run("readelf", "--program-headers", inside).stdout
    assert "LOAD" in headers and "INTERP" not in headers


def test_the_arm64_binary_runs(unpacked, owner, network, tmp_path):
    binary = unpacked("arm64") / "usr/bin/dob-api"
    emulator = "qemu-aarch64-static"
    assert VERSION in nspawn.run(emulator, binary, "--version").stdout
    environment = {"DOB_API_DATA_DIR": str(tmp_path), "PATH": os.environ["PATH"]}
    namespace = owner.namespace("arm")
    service = owner.spawn(emulator, binary, namespace=namespace, env=environment)
    healthy = ("ip", "netns", "exec", namespace, emulator, binary, "health")
    nspawn.wait_until(lambda: nspawn.run(*healthy, check=False).returncode == 0, "the arm64 service is healthy")
    ask = ("ip", "netns", "exec", namespace, "curl", "-sS", "http://127.0.0.1:8080/hello/ada")
    nspawn.run(*ask, "-X", "PUT", "-d", '{"dateOfBirth":"1815-12-10"}')
    assert "Hello, ada!" in nspawn.run(*ask).stdout
    service.terminate()
    service.wait(60)


def test_manual_and_settings_file_name_what_the_help_names_and_nothing_else(help_text):
    flags = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", help_text))
    settings = set(re.findall(r"\[env: (\w+)", re.sub(r"\s+", " ", help_text)))
    assert len(flags) > 3
    manual = (TOP / "packaging/dob-api.8").read_text().replace("\\-", "-")
    assert set(re.findall(r"\\fB(--[a-z-]+)", manual)) == flags
    assert set(re.findall(r", \\fB([A-Z_]+)\\fR$", manual, re.M)) == settings
    defaults = (TOP / "packaging/debian/dob-api.default").read_text()
    # Every user may read that file: a secret is not set there but its file.
    secrets = {name for name in settings if f"{name}_FILE" in settings}
    assert set(re.findall(r"^#([A-Z_]+)=", defaults, re.M)) == settings - secrets


def test_manual_and_settings_file_state_the_defaults_of_the_help(help_text):
    text = re.sub(r"\s+", " ", help_text)
    stated = {name: value for value, name in re.findall(r"\[default: (\S+)\] \[env: (\w+)\]", text)}
    assert len(stated) > 3
    manual = (TOP / "packaging/dob-api.8").read_text()
    defaults = dict(re.findall(r"^#([A-Z_]+)=(.*)$", (TOP / "packaging/debian/dob-api.default").read_text(), re.M))
    for name, value in stated.items():
        assert defaults[name] == value
        entry = manual.partition(f"\\fB{name}\\fR\n")[2].partition(".TP")[0]
        assert f"({value})" in entry, f"{name} {value}"


def test_the_stop_timeout_exceeds_the_drain():
    unit = (TOP / "packaging/debian/dob-api.service").read_text()
    settings = (TOP / "packaging/debian/dob-api.default").read_text()
    drain = sum(int(re.search(rf"^#{name}=(\d+)s$", settings, re.M)[1]) for name in ("DOB_API_DRAIN_DELAY", "DOB_API_DRAIN_TIMEOUT"))
    assert int(re.search(r"^TimeoutStopSec=(\d+)s$", unit, re.M)[1]) > drain


def test_the_manual_is_well_formed():
    shown = nspawn.run("man", "--warnings", "--local-file", TOP / "packaging/dob-api.8", env={**os.environ, "MANROFFSEQ": "", "LC_ALL": "C.UTF-8"})
    assert shown.stderr == ""


def test_the_bill_of_materials_lists_the_crates_of_the_lock_file(debs):
    locked = dict(re.findall(r'name = "(.+)"\nversion = "(.+)"\nsource', (TOP / "Cargo.lock").read_text()))
    for arch in ARCHITECTURES:
        bill = json.loads(debs[arch].with_suffix(".cdx.json").read_text())
        assert (bill["bomFormat"], bill["metadata"]["component"]["name"]) == ("CycloneDX", "dob-api")
        crates = {part["name"]: part for part in bill["components"]}
        assert {"tokio", "hyper", "redb"} <= set(crates) <= set(locked)
        assert all(crates[name].get("licenses") and crates[name]["hashes"] for name in ("tokio", "hyper", "redb"))
        assert str(TOP) not in json.dumps(bill)


def test_completions_offer_the_flags_in_every_shell(host):
    bash = ". /usr/share/bash-completion/bash_completion; _completion_loader dob-api; COMP_WORDS=(dob-api --drain); COMP_CWORD=1"
    bash += "; COMP_LINE='dob-api --drain'; COMP_POINT=15; _dob_api dob-api --drain dob-api; echo ${COMPREPLY[*]}"
    assert host.run("bash", "-c", bash).stdout.split() == ["--drain-delay", "--drain-timeout"]
    fish = host.run("fish", "-c", "complete -C 'dob-api --drain'").stdout
    assert re.findall(r"^--\S+", fish, re.M) == ["--drain-delay", "--drain-timeout"]
    for command in ("health", "export", "import"):
        assert command in host.run("fish", "-c", f"complete -C 'dob-api {command[0]}'").stdout
    assert "--drain-delay" in host.run("zsh", "-fc", ZSH).stdout


# zsh completes only on a terminal, so it gets one, and prints what it would offer.
ZSH = """
zmodload zsh/zpty
zpty shell zsh -fi
zpty -w shell 'PS1=; autoload -Uz compinit; compinit -u; zstyle ":completion:*" list-prompt ""'
zpty -w -n shell $'dob-api --drain-\\t\\t'
typeset all
until [[ $all == *--drain-delay* ]]; do zpty -r shell part || exit 1; all+=$part; done
print -r -- $all
"""


def test_the_same_tree_gives_the_same_bytes_from_another_folder(debs, binaries, tmp_path):
    cache = nspawn.run("bash", "-c", ". tools/lib.sh && cache", cwd=TOP).stdout.strip()
    # Kept between runs: only what changed is built again.
    elsewhere = f"{cache}/another/folder"
    nspawn.run("mkdir", "-p", elsewhere)
    for part in (".git", "Cargo.toml", "Cargo.lock", "CHANGELOG.md", "dev", "rust-toolchain.toml", "packaging", "src", "tools"):
        nspawn.run("rm", "-rf", f"{elsewhere}/{part}")
        nspawn.run("cp", "-a", TOP / part, elsewhere)
    nspawn.run("chmod", "-R", "go-rwx", f"{elsewhere}/packaging")
    # The crates lie elsewhere, too, as they do for another user.
    nspawn.run("mkdir", "-p", f"{elsewhere}/crates")
    crates = os.path.expanduser(os.environ.get("CARGO_HOME", "~/.cargo"))
    nspawn.run("sh", "-c", f"ln -sfn {crates}/* {crates}/.[!.]* {elsewhere}/crates")
    environment = {**os.environ, "CARGO_TARGET_DIR": f"{elsewhere}/built", "CARGO_HOME": f"{elsewhere}/crates"}
    environment.update(TZ="Asia/Tokyo", LC_ALL="C.UTF-8")
    nspawn.run(f"{elsewhere}/dev", "deb", "--arch", "amd64", "--out", tmp_path, env=environment, timeout=1800)
    for file in (debs["amd64"], debs["amd64"].with_suffix(".cdx.json")):
        assert digest(file) == digest(tmp_path / file.name)
    for name in (str(TOP), elsewhere, os.path.expanduser("~")):
        assert name.encode() not in binaries["amd64"].read_bytes()


def digest(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_bad_input_is_answered_in_one_sentence(binaries, owner, tmp_path):
    def told(*command, **options):
        done = nspawn.run(*command, check=False, **options)
        assert done.returncode != 0 and len(done.stderr.splitlines()) == 1, done.stderr
        return done.stderr

    binary = binaries["amd64"]
    deb = (TOP / "dev", "deb", "--binary", binary, "--out", tmp_path)
    assert "choose amd64 or arm64" in told(*deb, "--arch", "s390x")
    assert "--help" in told(*deb, "--frobnicate")
    assert "--help" in told(TOP / "dev", "deb", "--arch")

    full = ("unshare", "--mount", "sh", "-c", f'mount -t tmpfs -o size=1m none {tmp_path} && exec "$@"', "sh")
    assert "needs 50 MB" in told(*full, *deb)
    assert "needs 1000 MB" in told(*full, "env", f"CARGO_TARGET_DIR={tmp_path}", TOP / "dev", "build")
    image = (TOP / "dev", "container", "--amd64", binary, "--arm64", binary, "--out", tmp_path / "image")
    assert "free some" in told(*full, *image)

    user = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", f"XDG_CACHE_HOME={tmp_path}")
    os.chmod(tmp_path, 0o777)
    assert "root" in told(*user, TOP / "lab/hosts/debian", "trixie")
    assert "root" in told(*user, TOP / "packaging/tests/run")
    # A system without Debian's tools, as PATH shows it.
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("bash", "env", "dirname", "uname", "sed", "grep", "id", "cat", "realpath"):
        (tools / tool).symlink_to(shutil.which(tool))
    assert "these Debian packages by hand" in told(*deb, env={"PATH": str(tools), "HOME": str(tmp_path)})
