"""A file system that refuses writes is detected, whatever its mount options say."""

import errno
import importlib.machinery
import importlib.util
import os
import re
import subprocess
import sys

import pytest

from conftest import TOP, run

PROGRAM = TOP / "ansible/roles/exporters/files/filesystem-writes"


@pytest.fixture
def mounted(tmp_path):
    """Two small file systems under a folder."""
    folders = [tmp_path / "good", tmp_path / 'with "quotes" and space']
    made = []
    for number, folder in enumerate(folders):
        folder.mkdir()
        image = tmp_path / f"{number}.img"
        with image.open("wb") as file:
            file.truncate(4 << 20)
        subprocess.run(["mkfs.ext4", "-q", image], check=True, capture_output=True)
        subprocess.run(["mount", "-o", "loop", image, folder], check=True)
        made.append(folder)
    yield folders
    for folder in made:
        subprocess.run(["umount", folder], check=True)


def written(figures):
    lines = (figures / "dob-filesystems.prom").read_text()
    found = re.findall(r'^dob_filesystem_written_timestamp_seconds\{mountpoint="(.*)"\} (\d+)$', lines, re.M)
    return {name.replace('\\"', '"'): int(when) for name, when in found}


def line(folder, kind="ext4", device="/dev/loop0"):
    return f"{device} {str(folder).replace(' ', chr(92) + '040')} {kind} rw,relatime 0 0\n"


def look(figures, mounts):
    (figures / "mounts").write_text(mounts)
    return run(sys.executable, PROGRAM, figures, figures / "mounts")


def test_a_file_system_that_refuses_writes_keeps_the_time_of_its_last_one(tmp_path, mounted):
    good, bad = mounted
    figures = tmp_path / "figures"
    figures.mkdir()
    mounts = line(good) + line(bad) + line("/proc", "proc") + line(bad / "lost+found")
    assert look(figures, mounts).returncode == 0
    assert written(figures).keys() == {str(good), str(bad)}
    # Both were written long ago, so a new write shows without waiting.
    file = figures / "dob-filesystems.prom"
    file.write_text(re.sub(r" \d+$", " 1000", file.read_text(), flags=re.M))
    subprocess.run(["mount", "-o", "remount,ro", bad], check=True)
    looked = look(figures, mounts)
    assert looked.returncode == 0
    assert "takes no write: [Errno 30] Read-only file system" in looked.stderr
    assert written(figures)[str(bad)] == 1000
    assert written(figures)[str(good)] > 1000
    assert not [one for folder in mounted for one in folder.iterdir() if one.name != "lost+found"]


def test_one_that_never_took_a_write_says_so_and_one_that_is_gone_says_nothing(tmp_path, mounted):
    good, bad = mounted
    figures = tmp_path / "figures"
    figures.mkdir()
    subprocess.run(["mount", "-o", "remount,ro", bad], check=True)
    look(figures, line(good) + line(bad))
    assert written(figures)[str(bad)] == 0
    look(figures, line(good))
    assert written(figures).keys() == {str(good)}


def test_one_that_was_shut_down_is_named_once_and_one_that_is_covered_is_not(tmp_path, monkeypatch):
    loader = importlib.machinery.SourceFileLoader("filesystem_writes", str(PROGRAM))
    program = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader.exec_module(program)
    real = os.lstat

    def lstat(path):
        if path == "/var/lib/dead":
            raise OSError(errno.EIO, "Input/output error")
        return real(path)

    monkeypatch.setattr(program.os, "lstat", lstat)
    mounts = line(tmp_path) + line("/var/lib/dead", "xfs") * 2 + line(tmp_path / "covered")
    assert list(program.mountpoints(mounts)) == [str(tmp_path), "/var/lib/dead"]
