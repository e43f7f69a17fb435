"""What the image holds, and that it is the same each time."""

import os
import stat

import pytest

from conftest import TOP, unpack
from lab.hosts import nspawn


def test_the_same_inputs_give_the_same_bytes(image, tree, build, deb, owner, monkeypatch):
    """Also with a new root file system, in another folder, later, and with the package from the repository or not."""
    packages = image.with_suffix(".manifest").read_bytes()
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("XDG_CACHE_HOME", str(owner.folder / "cache"))
        second = build("second", "--deb", deb.parent)
    if second.with_suffix(".manifest").read_bytes() != packages:
        # Debian has moved on since the cached one was made: then from two that are both made now.
        image = build("today", "--fresh", "--deb", deb.parent)
        assert second.with_suffix(".manifest").read_bytes() == image.with_suffix(".manifest").read_bytes() != packages
        tree = unpack(image, owner.folder / "today-tree")
    if nspawn.run("cmp", image, second, check=False).returncode != 0:
        other = unpack(second, owner.folder / "second-tree")
        differing = nspawn.run("diff", "-rq", "--no-dereference", tree, other, check=False).stdout
        raise AssertionError(f"these differ:\n{differing or 'no file of the root file system'}")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--arch", "riscv64"], "there is no image for 'riscv64': choose amd64 or arm64"),
        (["--sources", "a", "--deb", "b"], "choose one of --sources and --deb"),
        (["--sources", "/missing"], "there is no file /missing: './dev apt-repo' writes"),
        (["--deb", "."], "--deb matches no package for amd64, or several: './dev deb --arch amd64' builds one"),
        (["--deb"], "--deb needs a value; see --help"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_sentence(tmp_path, options, said):
    done = nspawn.run(TOP / "dev", "image", "--arch", "amd64", "--out", tmp_path, *options, check=False, cwd=tmp_path)
    assert done.returncode == 64 and said in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert list(tmp_path.iterdir()) == []


EMPTY = ("var/log", "var/cache", "var/tmp", "tmp", "run", "root", "home", "etc/ssh")
GONE = ("usr/bin/apt", "var/lib/apt", "etc/apt", "var/lib/systemd/random-seed", "usr/bin/python3", "etc/cloud")
DAEMONS = {"sshd", "sshd-session", "dropbear", "tinysshd"}


def strange(tree):
    """What a host that is one of many must not have: an identity, traces of its making, a way in."""
    found = set()
    for folder in EMPTY:
        found |= {one for one in (tree / folder).rglob("*") if one.is_file() and one.stat().st_size and one.name not in (".bashrc", ".profile")}
    found |= {tree / name for name in GONE if (tree / name).exists()}
    for path in tree.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                if path.name in DAEMONS or b"PRIVATE KEY-----" in file.read(200):
                    found.add(path)
    if (tree / "etc/machine-id").read_text():
        found.add(tree / "etc/machine-id")
    if any(line.split(":")[1][:1] not in ("!", "*") for line in (tree / "etc/shadow").read_text().splitlines()):
        found.add(tree / "etc/shadow")
    return {str(path.relative_to(tree)) for path in found}


def test_nothing_of_one_host_is_on_it(tree):
    assert strange(tree) == set()


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("usr/sbin/sshd", "an SSH daemon"),
        ("opt/bin/dropbear", "another"),
        ("etc/ssh/ssh_host_ed25519_key.pub", "ssh-ed25519 AAAA"),
        ("srv/key", "-----BEGIN OPENSSH PRIVATE KEY-----"),
        ("root/.ssh/authorized_keys", "ssh-ed25519 AAAA"),
        ("root/.bash_history", "ls"),
        ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
        ("etc/shadow", "root::20000::::::\n"),
        ("var/log/dpkg.log", "status installed"),
        ("var/lib/apt/lists/trixie", "Package: dob-api"),
    ],
)
def test_what_does_not_belong_on_it_would_be_noticed(tree, file, text):
    path = tree / file
    before = path.read_bytes() if path.exists() else None
    made = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    try:
        assert len(strange(tree)) == 1
    finally:
        path.unlink()
        if before is not None:
            path.write_bytes(before)
        for folder in made:
            folder.rmdir()


def test_the_manifest_names_every_package_and_version(image, arch, tree):
    manifest = dict(line.split(" ", 1) for line in image.with_suffix(".manifest").read_text().splitlines())
    status = (tree / "var/lib/dpkg/status").read_text().split("\n\n")
    installed = [block.split("\n", 1)[0].partition(": ")[2] for block in status if block.strip()]
    assert sorted(manifest) == sorted(installed) and {"dob-api", f"linux-image-cloud-{arch}", "systemd"} <= set(manifest)
    version = image.name.split("_")[1]
    assert manifest["dob-api"] == f"{version} {arch}"


def test_nobody_can_become_another_and_nothing_is_writable_by_all(tree):
    for folder, _, files in os.walk(tree):
        for name in files:
            path = os.path.join(folder, name)
            mode = os.lstat(path).st_mode
            assert not (stat.S_ISREG(mode) and mode & (stat.S_IWOTH | stat.S_ISUID | stat.S_ISGID)), path
