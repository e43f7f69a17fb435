"""The container image, under podman."""

import json
import os
import pathlib

import pytest

from conftest import TOP, VERSION, flags
from lab.hosts import nspawn


def content(image, digest):
    return json.loads((image[0] / "blobs/sha256" / digest.removeprefix("sha256:")).read_text())


@pytest.fixture(scope="module")
def podman(image, owner):
    """Runs podman with a storage and a network of this run's own."""
    storage = owner.folder / "containers"
    settings = ("--root", storage, "--runroot", storage / "run", "--tmpdir", storage / "tmp", "--storage-driver=vfs")
    settings += ("--cgroup-manager=cgroupfs", "--runtime=runc", "--events-backend=file", "--log-level=error")

    def podman(*command, **options):
        return nspawn.run("podman", *settings, *command, **options)

    podman.settings, podman.namespace = settings, owner.namespace("podman")
    podman.confined = ("--ulimit=nofile=4096:4096", "--ulimit=nproc=4096:4096", f"--network=ns:/run/netns/{podman.namespace}")
    podman.confined += ("--read-only", "--cap-drop=all", "--security-opt=no-new-privileges")
    podman.image = podman("pull", "--quiet", f"oci:{image[0]}:{VERSION}").stdout.strip()
    yield podman
    podman("rm", "--all", "--force")


def test_two_builds_give_the_same_digest(image, binaries, tmp_path):
    again = nspawn.run(TOP / "dev", "container", *flags(binaries), "--out", tmp_path / "again", env={**os.environ, "TZ": "Asia/Tokyo"})
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
        assert nspawn.run("tar", "-tf", layer).stdout.split()[-1] == "usr/bin/dob-api"
        nspawn.run("sh", "-c", f"tar -xOf {layer} usr/bin/dob-api | cmp - {binaries[config['architecture']]}")


def test_under_podman_it_serves_read_only_as_non_root_and_is_healthy(podman, image):
    check = content(image, content(image, content(image, image[1])["manifests"][0]["digest"])["config"]["digest"])
    # podman reads a health check from images of Docker's format only, so it is told what the image says.
    command = " ".join(check["config"]["Healthcheck"]["Test"])
    name = "dob-api"

    def start():
        options = ("--name", name, "--volume=data:/var/lib/dob-api", "--health-cmd", command, "--health-interval=disable")
        podman("run", "--detach", *podman.confined, *options, podman.image)
        nspawn.wait_until(lambda: podman("healthcheck", "run", name, check=False).returncode == 0, "the container is healthy")

    def ask(path, *options):
        url = f"http://127.0.0.1:8080{path}"
        return nspawn.run("ip", "netns", "exec", podman.namespace, "curl", "-sS", "-w", "%{http_code}", *options, url).stdout

    start()
    assert ask("/hello/ada", "-X", "PUT", "-d", '{"dateOfBirth":"1815-12-10"}') == "204"
    assert "Hello, Ada!" in ask("/hello/Ada")
    inside = json.loads(podman("inspect", name).stdout)[0]
    status = pathlib.Path(f"/proc/{inside['State']['Pid']}/status").read_text()
    assert "\nUid:\t65532\t65532\t65532\t65532\n" in status and "\nCapEff:\t0000000000000000\n" in status
    assert podman("exec", name, "/bin/sh", check=False).returncode != 0

    podman("stop", "--time", "45", name)
    assert json.loads(podman("inspect", name).stdout)[0]["State"]["ExitCode"] == 0
    podman("rm", name)
    start()
    assert "Hello, Ada!" in ask("/hello/Ada"), "the data outlive the container"


# Stands where the contract's tests expect the service, with its settings in the environment. The tests are on the
# container's network, which podman itself must not be on.
WRAPPER = """#!/bin/sh
export HOME=/root
chown 65532 "$DOB_API_DATA_DIR"
env | grep -E '^(DOB_API|DATABASE)_' >"$DOB_API_DATA_DIR.settings"
exec nsenter --net=/proc/{runner}/ns/net {podman} run --rm {confined} --volume="$DOB_API_DATA_DIR:$DOB_API_DATA_DIR" \\
    --env-file="$DOB_API_DATA_DIR.settings" {image} "$@"
"""


def test_under_podman_it_passes_the_contract_of_the_service(podman, tmp_path):
    build = ("cargo", "test", "--locked", "--no-run", "--test=contract", "--message-format=json")
    artifacts = [json.loads(line) for line in nspawn.run(*build, cwd=TOP, timeout=1800).stdout.splitlines()]
    programs = {part["target"]["name"]: part["executable"] for part in artifacts if part.get("executable")}
    wrapper = tmp_path / "dob-api"
    lines = {"podman": ("podman", *podman.settings), "confined": podman.confined}
    wrapper.write_text(WRAPPER.format(image=podman.image, runner=os.getpid(), **{name: " ".join(map(str, line)) for name, line in lines.items()}))
    wrapper.chmod(0o755)
    script = 'mount --bind "$1" "$2" && exec nsenter --net="$3" "$4" embedded::'
    network = f"/run/netns/{podman.namespace}"
    tested = nspawn.run("unshare", "--mount", "sh", "-c", script, "sh", wrapper, programs["dob-api"], network, programs["contract"])
    print(tested.stdout)
    assert "test result: ok. 0 passed" not in tested.stdout
