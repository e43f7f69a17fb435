"""The report of outstanding upgrades lists what apt would install, and asks for a reboot only where one helps."""

import importlib.machinery
import importlib.util
import sys

import pytest

from conftest import TOP

PROGRAM = TOP / "ansible/roles/exporters/files/outstanding-upgrades"
# As apt-get of Debian 13 says it.
SIMULATED = """Reading package lists...
Building dependency tree...
Calculating upgrade...
The following packages have been kept back:
  etcd-server linux-headers-amd64
  patroni
The following NEW packages will be installed:
  linux-image-6.12.57+deb13-cloud-amd64
The following packages will be upgraded:
  curl libssl3t64 linux-image-cloud-amd64
3 upgraded, 1 newly installed, 0 to remove and 3 not upgraded.
Inst curl [8.14.1-2] (8.14.1-2+deb13u2 Debian:13.2/stable [amd64])
Inst libssl3t64 [3.5.1-1] (3.5.4-1~deb13u1 Debian:13.2/stable, Debian-Security:13/stable-security [amd64]) [openssl:amd64 ]
Inst linux-image-6.12.57+deb13-cloud-amd64 (6.12.57-1 Debian-Security:13/stable-security [amd64])
Inst linux-image-cloud-amd64 [6.12.48-1] (6.12.57-1 Debian-Security:13/stable-security [amd64])
Conf curl (8.14.1-2+deb13u2 Debian:13.2/stable [amd64])
"""
NOTHING = "Reading package lists...\n0 upgraded, 0 newly installed, 0 to remove and 0 not upgraded.\n"


@pytest.fixture
def program(monkeypatch):
    loader = importlib.machinery.SourceFileLoader("outstanding_upgrades", str(PROGRAM))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader.exec_module(module)
    return module


def test_upgrades_are_those_that_apt_would_install_and_what_is_held_is_apart(program):
    found = program.upgrades(SIMULATED)
    assert [one.split()[0] for one in found["all"]] == ["curl", "libssl3t64", "linux-image-6.12.57+deb13-cloud-amd64", "linux-image-cloud-amd64"]
    assert found["all"][0] == "curl 8.14.1-2+deb13u2"
    assert [one.split()[0] for one in found["security"]] == ["libssl3t64", "linux-image-6.12.57+deb13-cloud-amd64", "linux-image-cloud-amd64"]
    assert found["held"] == ["etcd-server", "linux-headers-amd64", "patroni"]
    assert program.upgrades(NOTHING) == {"all": [], "security": [], "held": []}


@pytest.mark.parametrize(
    ("installed", "running", "newer"),
    [
        (["6.12.48+deb13-cloud-amd64", "6.12.9+deb13-cloud-amd64"], "6.12.48+deb13-cloud-amd64", ""),
        (["6.12.48+deb13-cloud-amd64", "6.12.57+deb13-cloud-amd64"], "6.12.48+deb13-cloud-amd64", "6.12.57+deb13-cloud-amd64"),
        # The same kernel for other hardware is none to reboot for: the host would start the same one again.
        (["6.12.48+deb13-cloud-amd64", "6.12.48+deb13-amd64"], "6.12.48+deb13-amd64", ""),
        # A kernel that was removed still runs, and is the latest.
        (["6.12.48+deb13-arm64"], "6.12.57+deb13-arm64", ""),
        # A container has none.
        ([], "6.18.44", ""),
    ],
)
def test_a_later_kernel_is_one_to_reboot_for(program, tmp_path, installed, running, newer):
    for version in installed:
        (tmp_path / f"vmlinuz-{version}").touch()
    assert program.newer_kernel(tmp_path, running) == newer


@pytest.mark.parametrize(
    ("mapped", "counts"),
    [
        ("/usr/lib/x86_64-linux-gnu/libssl.so.3 (deleted)", True),
        ("/lib/x86_64-linux-gnu/libc.so.6 (deleted)", True),
        ("/usr/sbin/chronyd (deleted)", True),
        ("/usr/lib/x86_64-linux-gnu/libssl.so.3", False),
        # A program removed these itself: a reboot would bring them again.
        ("/dev/shm/PostgreSQL.2711 (deleted)", False),
        ("/tmp/.jit-1a2b.so (deleted)", False),
        ("/memfd:lib.so (deleted)", False),
        ("/usr/lib/locale/C.utf8/LC_CTYPE (deleted)", False),
    ],
)
def test_a_program_or_library_that_was_replaced_is_one_to_reboot_for(program, tmp_path, mapped, counts):
    (tmp_path / "7").mkdir()
    (tmp_path / "7/maps").write_text(f"7f00-7f01 r-xp 00000000 08:01 99   {mapped}\n7f02-7f03 rw-p 00000000 00:00 0 \n")
    assert program.outdated([("7", "ssh.service"), ("8", "gone.service")], tmp_path) == (["ssh.service"] if counts else [])


def test_a_login_is_not_one_to_reboot_for(program, monkeypatch):
    said = {
        "systemctl": "412\n",
        "ps": "1 init.scope\n2 -\n412 ssh.service\n900 ssh.service\n901 session-4.scope\n902 user@1000.service\n903 etcd.service\n",
    }
    monkeypatch.setattr(program, "run", lambda command, *_: type("Done", (), {"stdout": said[command]}))
    assert list(program.processes()) == [("1", "init.scope"), ("412", "ssh.service"), ("903", "etcd.service")]


def test_a_package_that_asks_for_a_reboot_is_named(program, monkeypatch, tmp_path):
    monkeypatch.setattr(program, "outdated", lambda _: [])
    monkeypatch.setattr(program, "newer_kernel", lambda *_: "")
    required = tmp_path / "reboot-required"
    assert program.reboot(str(required)) == []
    required.touch()
    assert program.reboot(str(required)) == ["asked for by a package"]
    (tmp_path / "reboot-required.pkgs").write_text("linux-image\nlibc6\nlinux-image\n")
    assert program.reboot(str(required)) == ["asked for by libc6, linux-image"]


def test_the_time_of_the_package_lists_stays_while_the_archive_cannot_be_reached(program, tmp_path):
    file, state = tmp_path / "dob-upgrades.prom", {"all": ["a 1"], "security": [], "held": []}

    def lists():
        return int(file.read_text().rpartition(" ")[2])

    program.write(tmp_path, state, [], "no route to host")
    assert lists() == 0, "a host that never reached it does not know"
    program.write(tmp_path, state, ["a reason"], "")
    assert lists() > 0 and "dob_reboot_needed 1\n" in file.read_text()
    file.write_text("dob_package_lists_timestamp_seconds 1000\n")
    program.write(tmp_path, state, [], "no route to host")
    assert lists() == 1000
    assert 'dob_upgrades_outstanding{kind="all"} 1\n' in file.read_text() and "dob_reboot_needed 0\n" in file.read_text()
