"""What the image holds, and that it is the same each time."""

import os
import stat

import hosts
from conftest import unpack


def test_the_same_inputs_give_the_same_bytes(image, tree, build, owner):
    second = build("second")
    difference = hosts.run("cmp", image, second, check=False)
    if difference.returncode != 0:
        files = hosts.run("diff", "-rq", "--no-dereference", tree, unpack(second, owner.folder / "second-tree"), check=False)
        raise AssertionError(f"{difference.stdout}{files.stdout or 'no file of the root file system differs'}")
    assert second.with_suffix(".manifest").read_bytes() == image.with_suffix(".manifest").read_bytes()
    second.unlink()


def test_nothing_of_one_host_is_on_it(tree):
    assert (tree / "etc/machine-id").read_text() == ""
    for folder in ("var/log", "var/cache", "var/tmp", "tmp", "run", "root", "home"):
        assert [one for one in (tree / folder).rglob("*") if one.is_file() and one.stat().st_size and not one.name.startswith(".")] == [], folder
    for gone in ("etc/ssh", "usr/sbin/sshd", "usr/bin/apt", "var/lib/apt", "etc/apt", "var/lib/systemd/random-seed", "usr/bin/python3", "etc/cloud"):
        assert not (tree / gone).exists(), gone
    hashes = [line.split(":")[1] for line in (tree / "etc/shadow").read_text().splitlines()]
    assert all(text[0] in "!*" for text in hashes)
    keys = [path for path in tree.rglob("*") if path.is_file() and not path.is_symlink() and b"PRIVATE KEY-----" in path.read_bytes()[:200]]
    assert keys == []


def test_the_manifest_names_every_package_and_version(image, tree):
    manifest = dict(line.split(" ", 1) for line in image.with_suffix(".manifest").read_text().splitlines())
    status = (tree / "var/lib/dpkg/status").read_text().split("\n\n")
    installed = [block.split("\n", 1)[0].partition(": ")[2] for block in status if block.strip()]
    assert sorted(manifest) == sorted(installed) and {"dob-api", "linux-image-cloud-amd64", "systemd"} <= set(manifest)
    version = image.name.split("_")[1]
    assert manifest["dob-api"] == f"{version} amd64"


def test_nobody_can_become_another_and_nothing_is_writable_by_all(tree):
    for folder, _, files in os.walk(tree):
        for name in files:
            path = os.path.join(folder, name)
            mode = os.lstat(path).st_mode
            assert not (stat.S_ISREG(mode) and mode & (stat.S_IWOTH | stat.S_ISUID | stat.S_ISGID)), path
