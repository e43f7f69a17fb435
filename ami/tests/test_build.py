"""What the image holds, and that it is the same each time."""

import os
import stat

import pytest

import hosts
from conftest import TOP, unpack


def test_the_same_inputs_give_the_same_bytes(image, tree, build, deb, owner, monkeypatch):
    """Also from a root file system made anew, elsewhere and later, and whether the package comes from the repository or not."""
    packages = image.with_suffix(".manifest").read_bytes()
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("XDG_CACHE_HOME", str(owner.folder / "cache"))
        second = build("second", "--deb", deb.parent)
    if second.with_suffix(".manifest").read_bytes() != packages:
        # Debian has moved on since the cached one was made: then from two that are both made now.
        image = build("today", "--fresh", "--deb", deb.parent)
        assert second.with_suffix(".manifest").read_bytes() == image.with_suffix(".manifest").read_bytes() != packages
        tree = unpack(image, owner.folder / "today-tree")
    if hosts.run("cmp", image, second, check=False).returncode != 0:
        other = unpack(second, owner.folder / "second-tree")
        differing = hosts.run("diff", "-rq", "--no-dereference", tree, other, check=False).stdout
        raise AssertionError(f"these differ:\n{differing or 'no file of the root file system'}")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--arch", "riscv64"], "there is no image for 'riscv64': choose amd64 or arm64"),
        (["--sources", "a", "--deb", "b"], "choose one of --sources and --deb"),
        (["--sources", "/missing"], "there is no file /missing; './dev apt-repo' writes"),
        (["--deb", "."], "--deb names no package for amd64, or more than one: './dev deb --arch amd64' makes one"),
        (["--deb"], "--deb needs a value; see --help"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_sentence(tmp_path, options, said):
    done = hosts.run(TOP / "dev", "image", "--arch", "amd64", "--out", tmp_path, *options, check=False, cwd=tmp_path)
    assert done.returncode == 1 and said in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_nothing_of_one_host_is_on_it(tree):
    assert (tree / "etc/machine-id").read_text() == ""
    for folder in ("var/log", "var/cache", "var/tmp", "tmp", "run", "root", "home"):
        assert [one for one in (tree / folder).rglob("*") if one.is_file() and one.stat().st_size and not one.name.startswith(".")] == [], folder
    for gone in ("usr/sbin/sshd", "etc/ssh/sshd_config", "usr/bin/apt", "var/lib/apt", "etc/apt", "var/lib/systemd/random-seed", "usr/bin/python3", "etc/cloud"):
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
