"""Which repositories apt trusts, and what they keep."""

import os
import re
import shutil

from conftest import TOP, edit, version_of
from lab.hosts import nspawn


def test_the_repository_keeps_every_version_and_serves_both_architectures(bare, released, debs):
    old, new = version_of(debs["amd64"]), version_of(debs["next"])
    bare.use_repository("upgraded")
    offered = bare.run("apt-cache", "madison", "dob-api").stdout
    assert [line.split("|")[1].strip() for line in offered.splitlines()] == [new, old]
    bare.run("apt-get", "install", "--yes", f"dob-api={old}")
    bare.run("apt-get", "install", "--yes", "dob-api")
    arm = (released.parent / "released/dists/stable/main/binary-arm64/Packages").read_text()
    assert f"\nArchitecture: arm64\nVersion: {old}\n" in arm


def test_an_unsigned_tampered_or_foreign_repository_is_refused(bare, repository, site):
    def broken(name, breakage, key="test"):
        folder = repository(name, "amd64", key=key)
        breakage(folder)
        shutil.rmtree(site / "victim", ignore_errors=True)
        folder.rename(site / "victim")
        # The user's own sources are those of the true repository, at the same place.
        sources = (site / "true/dob-api.sources").read_text().replace("/true", "/victim")
        bare.write("/etc/apt/sources.list.d/dob-api.sources", sources)
        bare.shell("rm -rf /var/lib/apt/lists/*")
        update = bare.run("apt-get", "update", "--error-on=any", check=False)
        install = bare.run("apt-get", "install", "--yes", "dob-api", check=False)
        assert bare.run("dpkg-query", "--show", "dob-api", check=False).returncode != 0, f"{name} was installed"
        return update.returncode, install.returncode, update.stderr + install.stderr

    def unsign(folder):
        stable = folder / "dists/stable"
        (stable / "InRelease").unlink()
        (stable / "Release.gpg").unlink()

    def change_release(folder):
        edit(folder / "dists/stable/InRelease", "Origin: dob-api", "Origin: dob-apl")

    def change_index(folder):
        for file in folder.glob("dists/stable/main/binary-amd64/**/*"):
            if file.is_file():
                file.write_bytes(file.read_bytes().replace(b"dob-api", b"dob-apl"))
                (file.parent / "Packages.gz").unlink(missing_ok=True) if file.name == "Packages" else None

    def change_package(folder):
        [package] = folder.glob("pool/main/*_amd64.deb")
        content = bytearray(package.read_bytes())
        content[-100] ^= 1
        package.write_bytes(content)

    repository("true", "amd64")
    for name, breakage, key in (
        ("unsigned", unsign, "test"),
        ("release", change_release, "test"),
        ("index", change_index, "test"),
        ("foreign", lambda folder: None, "stranger"),
    ):
        update, install, message = broken(name, breakage, key)
        print(name, message)
        assert update != 0 and install != 0, f"{name} was accepted: {message}"
    update, install, message = broken("package", change_package)
    assert update == 0 and install != 0 and "Hash Sum mismatch" in message
    # The control: the same place, unbroken, is accepted.
    shutil.rmtree(site / "victim")
    repository("true", "amd64").rename(site / "victim")
    bare.shell("apt-get update --error-on=any && apt-get install --yes dob-api")


def test_a_key_of_the_users_own_keyring_signs_as_well(debs, owner, keys):
    keys("test")
    home = owner.folder / "gnupg-test"
    environment = {**os.environ, "GNUPGHOME": str(home)}
    listed = nspawn.run("gpg", "--with-colons", "--list-secret-keys", env=environment).stdout
    fingerprint = re.search(r"^fpr:+(\w+):", listed, re.M)[1]
    folder = owner.folder / "by-fingerprint"
    nspawn.run(TOP / "dev", "apt-repo", folder, "--key", fingerprint, debs["amd64"], env=environment)
    nspawn.run("gpg", "--verify", folder / "dists/stable/InRelease", env=environment)
    nspawn.run("gpgconf", "--kill", "all", env=environment)


def test_a_repository_without_a_key_is_not_made(debs, owner):
    told = nspawn.run(TOP / "dev", "apt-repo", owner.folder / "keyless", debs["amd64"], check=False)
    assert told.returncode == 64 and "--key" in told.stderr and len(told.stderr.splitlines()) == 1
    told = nspawn.run(TOP / "dev", "apt-repo", owner.folder / "keyless", "--key", "nobody", debs["amd64"], check=False)
    assert told.returncode == 1 and "nobody" in told.stderr and len(told.stderr.splitlines()) == 1
    assert not (owner.folder / "keyless/dists").exists()
