"""An attacker who may write into the bucket of packages gets nothing signed and nothing into an image. No host is booted."""

import re
import subprocess

import pytest

from tools import TOP


def run(*command, check=True, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, timeout=120, cwd=TOP, **options)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Our key and a stranger's: the file with the secret half, and the fingerprint."""
    made = {}
    for name in ("ours", "stranger"):
        home = tmp_path_factory.mktemp(name)
        gpg = ("gpg", "--homedir", home, "--batch", "--passphrase", "")
        run(*gpg, "--quick-generate-key", name, "ed25519", "sign")
        (home / "secret").write_text(run(*gpg, "--armor", "--export-secret-keys").stdout)
        made[name] = home / "secret", re.search(r"^fpr:+(\w+):", run(*gpg, "--with-colons", "--list-keys").stdout, re.M)[1]
        run("gpgconf", "--homedir", home, "--kill", "all")
    return made


@pytest.fixture
def deb(tmp_path):
    """Makes a small package of a version."""

    def make(version, arch="amd64", content="honest", folder="built"):
        tree = tmp_path / f"tree-{folder}-{version}"
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "content").write_text(content)
        (tree / "DEBIAN/control").write_text(
            f"Package: dob-api\nVersion: {version}\nArchitecture: {arch}\nMaintainer: x <x@example.org>\nDescription: tried\n"
        )
        (tmp_path / folder).mkdir(exist_ok=True)
        file = tmp_path / folder / f"dob-api_{version}_{arch}.deb"
        run("dpkg-deb", "--root-owner-group", "--build", tree, file)
        return file

    return make


@pytest.fixture
def publish(tmp_path, keys):
    """What the release does to a copy of the bucket."""

    def sign(*packages, key="ours", check=True):
        command = (TOP / "dev", "apt-repo", tmp_path / "bucket", "--key", keys[key][0])
        return run(*command, *(packages or ("--refresh",)), check=check)

    return sign


@pytest.fixture
def bucket(tmp_path, publish, deb):
    publish(deb("1.0"))
    return tmp_path / "bucket"


def listed(bucket):
    text = (bucket / "dists/stable/main/binary-amd64/Packages").read_text()
    return re.findall(r"^Version: (.*)$", text, re.M)


def fetch(bucket, folder, version, fingerprint):
    return run(TOP / "ami/fetch", bucket / "dob-api.sources", "amd64", folder, version, bucket, fingerprint, check=False)


def test_a_planted_package_is_not_signed(bucket, publish, deb):
    planted = deb("9.9", content="evil", folder="bucket/pool/main")
    done = publish(deb("1.1"))
    assert sorted(listed(bucket)) == ["1.0", "1.1"] and not planted.exists()
    assert "dob-api_9.9_amd64.deb is left out" in done.stderr


def test_a_package_that_was_replaced_is_not_signed(bucket, publish, deb):
    (bucket / "pool/main/dob-api_1.0_amd64.deb").unlink()
    deb("1.0", content="evil", folder="bucket/pool/main")
    publish(deb("1.1"))
    assert listed(bucket) == ["1.1"]


@pytest.mark.parametrize("name", ["main/binary-amd64/Packages.xz", "main/binary-all/Packages", "main/i18n/Translation-en", "evil/Packages"])
def test_a_planted_index_is_not_signed(bucket, publish, deb, name):
    """apt takes an index of the better compression, if the signed Release names one."""
    file = bucket / "dists/stable" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"Package: dob-api\nVersion: 9.9\n")
    publish(deb("1.1"))
    assert name.rpartition("/")[2] not in set(re.findall(r"/(\S+)$", (bucket / "dists/stable/InRelease").read_text(), re.M)) - {"Packages"}
    assert name not in (bucket / "dists/stable/InRelease").read_text()


def test_an_index_that_lists_a_planted_package_is_refused(bucket, publish, deb):
    """Whole, but signed by nobody or by a stranger."""
    deb("9.9", content="evil", folder="bucket/pool/main")
    before = (bucket / "dists/stable/InRelease").read_text()
    index = bucket / "dists/stable/main/binary-amd64/Packages"
    index.write_text(run("apt-ftparchive", "--arch", "amd64", "packages", bucket / "pool").stdout)
    (bucket / "dists/stable/InRelease").write_text(before.replace("Origin: dob-api", "Origin: dob-apl"))
    done = publish(deb("1.1"), check=False)
    assert done.returncode != 0 and "did not sign" in done.stderr
    (bucket / "dists/stable/InRelease").write_text(before)
    publish(deb("1.2"))
    assert sorted(listed(bucket)) == ["1.0", "1.2"]


def test_the_index_of_a_stranger_is_refused_and_so_is_a_stranger_who_signs(bucket, publish, deb, keys):
    done = publish(deb("1.1"), key="stranger", check=False)
    assert done.returncode != 0 and "did not sign" in done.stderr
    command = (TOP / "dev", "apt-repo", bucket, "--key", keys["stranger"][0], "--fingerprint", keys["ours"][1], "--refresh")
    done = run(*command, check=False)
    assert done.returncode != 0 and "is required: nothing was signed" in done.stderr


def test_a_bucket_without_a_signed_index_vouches_for_nothing(bucket, publish, deb):
    (bucket / "dists/stable/InRelease").unlink()
    publish(deb("1.1"))
    assert listed(bucket) == ["1.1"]


def test_a_refresh_signs_the_same_versions_for_longer(bucket, publish):
    (release,) = [bucket / "dists/stable/Release"]
    old = release.read_text()
    publish()
    assert listed(bucket) == ["1.0"]
    for text in (old, release.read_text()):
        dates = {name: re.search(rf"^{name}: (.*)$", text, re.M)[1] for name in ("Date", "Valid-Until")}
        seconds = [int(run("date", "-d", dates[name], "+%s").stdout) for name in ("Date", "Valid-Until")]
        assert seconds[1] - seconds[0] == 60 * 24 * 3600


def test_an_index_that_is_too_old_is_refused(bucket, keys, tmp_path):
    """By apt itself, which the image takes its package with."""
    stable = bucket / "dists/stable"
    text = re.sub(r"^Valid-Until: .*$", "Valid-Until: Mon, 02 Nov 2020 00:00:00 UTC", (stable / "Release").read_text(), flags=re.M)
    (stable / "Release").write_text(text)
    home = keys["ours"][0].parent
    for way, name in (("--clearsign", "InRelease"), ("--detach-sign", "Release.gpg")):
        run("gpg", "--homedir", home, "--batch", "--yes", "--armor", way, "--output", stable / name, stable / "Release")
    run("gpgconf", "--homedir", home, "--kill", "all")
    done = fetch(bucket, tmp_path / "fetched", "1.0", keys["ours"][1])
    assert done.returncode != 0 and "expired" in done.stderr


def test_an_image_takes_the_version_that_it_names_with_the_signature_of_our_key(bucket, publish, deb, keys, tmp_path):
    publish(deb("2.0"))
    done = fetch(bucket, tmp_path / "fetched", "1.0", keys["ours"][1])
    assert done.returncode == 0 and done.stdout.strip().endswith("dob-api_1.0_amd64.deb"), done.stderr
    assert fetch(bucket, tmp_path / "none", "3.0", keys["ours"][1]).returncode != 0


@pytest.mark.parametrize("beside", [False, True])
def test_a_bucket_that_was_replaced_whole_gives_an_image_nothing(bucket, deb, keys, tmp_path, beside):
    """The key stands in the bucket, too: replaced as well, or with the stranger's beside it."""
    honest = (bucket / "dob-api.sources").read_text()
    run("rm", "-r", bucket)
    run(TOP / "dev", "apt-repo", bucket, "--key", keys["stranger"][0], deb("1.0", content="evil", folder="evil"))
    if beside:
        evil = (bucket / "dob-api.sources").read_text()
        (bucket / "dob-api.sources").write_text(f"{honest}\n{evil}")
    done = fetch(bucket, tmp_path / "fetched", "1.0", keys["ours"][1])
    assert done.returncode != 0 and not done.stdout, done.stdout
    assert ("cannot be trusted" if beside else f"does not contain the key {keys['ours'][1]}") in done.stderr
