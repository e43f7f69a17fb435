"""The trial of compose.yaml, by podman-compose, with a database image of Debian's packages."""

import json
import os
import re

import pytest

from conftest import TOP, VERSION
from lab.hosts import nspawn, plan

COMPOSE = TOP / "compose.yaml"
DATABASE, SERVICE = re.findall(r"^    image: (\S+:\S+)$", COMPOSE.read_text(), re.M)[::-1]
# runc and cgroupfs: this machine need not have been booted by systemd. A name of a service is looked up at aardvark-dns.
SETTINGS = """
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
runtime = "runc"
events_logger = "file"
tmp_dir = "{folder}/tmp"
[network]
network_backend = "netavark"
network_config_dir = "{folder}/networks"
"""
STORAGE = '[storage]\ndriver = "vfs"\ngraphroot = "{folder}/storage"\nrunroot = "{folder}/run"\n'
# What PostgreSQL does not need of a host.
LEFT_OUT = ("*libLLVM*", "*/bitcode", "*/gconv", "*/perl", "./usr/lib/systemd", "./usr/lib/python3*", "./dev", "./var/cache", "./var/lib/apt")
LEFT_OUT += tuple(f"./usr/share/{name}" for name in ("bash-completion", "fish", "i18n", "zsh"))


class Trial:
    """podman and podman-compose with a storage and a network of this run's own, and the images that compose.yaml names."""

    def __init__(self, owner):
        self.owner, self.folder = owner, owner.folder / "trial"
        self.folder.mkdir()
        for name, text in {"containers.conf": SETTINGS, "storage.conf": STORAGE}.items():
            (self.folder / name).write_text(text.format(folder=self.folder))
        self.namespace = owner.namespace("trial")
        self.environment = os.environ | {
            "CONTAINERS_CONF": str(self.folder / "containers.conf"), "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf")
        }  # fmt: skip

    def run(self, *command, **options):
        # What a command leaves running ends with the run of the tests.
        joined = self.owner.joining("trial")
        return nspawn.run(*joined, "nsenter", f"--net=/run/netns/{self.namespace}", *command, env=self.environment, cwd=TOP, **options)

    def compose(self, *command):
        return self.run("podman-compose", "-p", "trial", "-f", COMPOSE, *command)

    def bring(self, image, rootfs):
        """Puts both images under the names that compose.yaml gives them, so that nothing is pulled."""
        self.run("skopeo", "copy", "--quiet", f"oci:{image[0]}:{VERSION}", f"containers-storage:{SERVICE}")
        packed = self.folder / "database.tar"
        self.run("tar", "-cf", packed, *(f"--exclude={path}" for path in LEFT_OUT), "-C", rootfs, ".")
        self.run("tar", "-rf", packed, "-C", TOP / "packaging/tests", "--transform=s|^|usr/local/bin/|", "database-entrypoint")
        changes = (
            'ENTRYPOINT ["database-entrypoint"]',
            "VOLUME /var/lib/postgresql/data",
            f"ENV PATH=/usr/local/bin:/usr/lib/postgresql/{plan.POSTGRESQL}/bin:/usr/bin:/bin",
        )
        self.run("podman", "import", "--quiet", *(part for change in changes for part in ("--change", change)), packed, DATABASE)
        packed.unlink()

    def ask(self, path, *options, check=True):
        return self.run("curl", "-sS", "-m", "10", "-w", "%{http_code}", *options, f"http://127.0.0.1:8080{path}", check=check).stdout

    def healthy(self):
        nspawn.wait_until(lambda: self.ask("/healthz", check=False).endswith("200"), "the service has met its database", 120)


@pytest.fixture(scope="module")
def trial(owner, image, rootfs):
    made = Trial(owner)
    made.bring(image, rootfs("trixie"))
    made.compose("up", "-d")
    yield made
    made.run("podman", "rm", "--all", "--force", "--volumes")


def test_the_trial_names_this_version():
    assert SERVICE.endswith(f":{VERSION}")


def test_the_two_lines_of_the_trial_are_in_the_readme():
    readme = (TOP / "README.md").read_text()
    assert "podman-compose up -d\n" in readme and "podman-compose down --volumes\n" in readme


def test_a_user_is_saved_in_the_database_of_the_trial(trial):
    trial.healthy()
    assert trial.ask("/hello/ada", "-X", "PUT", "-d", '{"dateOfBirth":"1815-12-10"}') == "204"
    assert "Hello, Ada!" in trial.ask("/hello/Ada")
    rows = trial.run("podman", "exec", "trial_database_1", "psql", "-U", "postgres", "-d", "dob", "-Atc", "select username from users").stdout
    assert rows == "ada\n"


def test_only_the_service_is_reachable_and_only_on_this_machine(trial):
    ports = {one["Names"][0]: one["Ports"] for one in json.loads(trial.run("podman", "ps", "--format", "json").stdout)}
    assert ports.pop("trial_database_1") in (None, [])
    ((port,),) = ports.values()
    assert (port["host_ip"], port["host_port"], port["container_port"]) == ("127.0.0.1", 8080, 8080)


def test_the_service_waits_for_a_database_that_is_away_and_needs_no_restart(trial):
    trial.run("podman", "stop", "trial_database_1")
    trial.run("podman", "start", "trial_database_1")
    nspawn.wait_until(lambda: "Hello, ada!" in trial.ask("/hello/ada", check=False), "the service finds its database again", 60)


def test_users_outlive_a_down_and_end_with_its_volumes(trial):
    trial.compose("down")
    trial.compose("up", "-d")
    trial.healthy()
    assert "Hello, ada!" in trial.ask("/hello/ada")
    trial.compose("down", "--volumes")
    assert trial.run("podman", "volume", "ls", "--quiet").stdout == "" == trial.run("podman", "ps", "--all", "--quiet").stdout
    trial.compose("up", "-d")
    trial.healthy()
    assert trial.ask("/hello/ada").endswith("404")
