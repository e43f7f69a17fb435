"""The container image, under podman."""

import json
import os

import pytest

import hosts
from conftest import TOP, VERSION

BUILD = ("dev", "container")


@pytest.fixture(scope="module")
def image(binaries, owner):
    out = owner.folder / "image"
    printed = hosts.run(TOP / "dev", "container", *flags(binaries), "--out", out).stdout
    return out, printed.split()[1]


def flags(binaries):
    return [part for arch, binary in binaries.items() for part in (f"--{arch}", binary)]


def content(image, digest):
    return json.loads((image[0] / "blobs/sha256" / digest.removeprefix("sha256:")).read_text())


@pytest.fixture(scope="module")
def podman(image, owner):
    """Runs podman with a storage of this run's own."""
    storage = owner.folder / "containers"
    settings = ("--root", storage, "--runroot", storage / "run", "--tmpdir", storage / "tmp", "--storage-driver", "vfs")
    settings += ("--cgroup-manager=cgroupfs", "--runtime=runc", "--events-backend=file")
    namespace = owner.namespace("podman")

    def podman(*command, **options):
        return hosts.run("ip", "netns", "exec", namespace, "podman", *settings, *command, **options)

    podman.namespace = namespace
    podman("pull", "--quiet", f"oci:{image[0]}:{VERSION}")
    yield podman
    podman("rm", "--all", "--force", check=False)


def test_two_builds_give_the_same_digest(image, binaries, tmp_path):
    again = hosts.run(TOP / "dev", "container", *flags(binaries), "--out", tmp_path / "again", env={**os.environ, "TZ": "Asia/Tokyo"})
    assert again.stdout.split()[1] == image[1]


def test_one_index_holds_both_architectures_as_non_root_from_scratch(image, binaries):
    index = content(image, image[1])
    assert index["mediaType"] == "application/vnd.oci.image.index.v1+json"
    assert [part["platform"]["architecture"] for part in index["manifests"]] == ["amd64", "arm64"]
    for part in index["manifests"]:
        manifest = content(image, part["digest"])
        assert len(manifest["layers"]) == 1
        config = content(image, manifest["config"]["digest"])
        assert config["architecture"] == part["platform"]["architecture"]
        assert config["config"]["User"] == "65532:65532"
        assert config["config"]["Healthcheck"]["Test"] == ["CMD", "/usr/bin/dob-api", "health"]
        assert config["config"]["Labels"]["org.opencontainers.image.version"] == VERSION
        layer = image[0] / "blobs/sha256" / manifest["layers"][0]["digest"].removeprefix("sha256:")
        assert hosts.run("tar", "-tf", layer).stdout.split()[-1] == "usr/bin/dob-api"
        hosts.run("sh", "-c", f"tar -xOf {layer} usr/bin/dob-api | cmp - {binaries[config['architecture']]}")


def test_under_podman_it_serves_read_only_as_non_root_and_is_healthy(podman, image):
    check = content(image, content(image, content(image, image[1])["manifests"][0]["digest"])["config"]["digest"])
    command = json.dumps(check["config"]["Healthcheck"]["Test"])
    limits = ("--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096", f"--network=ns:/run/netns/{podman.namespace}")
    confined = ("--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", "--volume", "data:/var/lib/dob-api")
    name = "dob-api"

    def start():
        podman("run", "--detach", "--name", name, *limits, *confined, "--health-cmd", command, "--health-interval=disable", VERSION)
        hosts.wait_until(lambda: podman("healthcheck", "run", name, check=False).returncode == 0, "the container is healthy")

    def ask(path, *options):
        url = f"http://127.0.0.1:8080{path}"
        return hosts.run("ip", "netns", "exec", podman.namespace, "curl", "-sS", "-w", "%{http_code}", *options, url).stdout

    podman("tag", podman("images", "--quiet").stdout.strip(), VERSION)
    start()
    assert ask("/hello/ada", "-X", "PUT", "-d", '{"dateOfBirth":"1815-12-10"}') == "204"
    assert "Hello, Ada!" in ask("/hello/Ada")
    assert ask("/hello/nobody").endswith("404")
    assert ask("/hello/ada", "-X", "DELETE").endswith("405")
    assert ask("/hello/ada1").endswith("404") or ask("/hello/ada1").endswith("400")
    assert ask("/hello/ada", "-X", "PUT", "-d", "{}").endswith("400")
    inside = json.loads(podman("inspect", name).stdout)[0]
    status = open(f"/proc/{inside['State']['Pid']}/status").read()
    assert "\nUid:\t65532\t65532\t65532\t65532\n" in status and "\nCapEff:\t0000000000000000\n" in status
    assert podman("exec", name, "/bin/sh", check=False).returncode != 0

    podman("stop", "--time", "45", name)
    assert json.loads(podman("inspect", name).stdout)[0]["State"]["ExitCode"] == 0
    podman("rm", name)
    start()
    assert "Hello, Ada!" in ask("/hello/Ada"), "the data outlive the container"
