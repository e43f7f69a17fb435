"""Regions of booted Debian hosts on this machine, from bare hosts to lost ones."""

import contextlib
import json
import os
import pathlib
import shlex
import subprocess
import sys

from lab.hosts import balancer, credentials, inventory, nspawn, pager, plan, storage
from lab.hosts.archive import Archive
from lab.hosts.cloud import Cloud
from lab.hosts.machine import Machine
from tools import TOP

# An object store gets TLS from the balancer's program.
FILE_SYSTEMS = {"storage": "balancer"}
LEADERS = ("leader", "standby_leader")
# A process that serves a run. Its output does not reach the process that started it.
SILENT = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
APT_URL = f"http://{plan.OPERATOR}/apt"


class Unusable(Exception):
    """A sentence that says what to do."""


class Run(nspawn.Run):
    """Everything of one cluster, including what another process started and left running."""

    def __init__(self, folder=None):
        if folder is None:
            super().__init__()
        else:
            self.folder, self.name = folder, folder.name

    def full(self, name):
        return f"dob-{self.name}-{name}"

    def keep(self):
        """Lets the run outlive this process: a process that only holds the lock takes it over."""
        (self.folder / "kept").write_text(str(TOP))
        self.spawn("sleep", "infinity", pass_fds=[self.lock.fileno()], **SILENT)


class Cluster:
    """The hosts of a run and what is done to them."""

    def __init__(self, run, venv):
        self.run, self.venv = run, venv
        self.cloud = Cloud(run)
        added = [place for name, place in plan.SPARES.items() if (run.folder / name).exists()]
        self.machines = {place.name: Machine(self.cloud, place) for place in [*map(self._taken, plan.PLACES.values()), *added]}
        self.inventory = run.folder / "inventory"
        vault = self.inventory / "group_vars/all/vault.yml"
        self.credentials = credentials.Credentials(run.folder / "credentials", vault, venv)
        self.archive = Archive(run.folder / "site/debian", self.credentials)

    def _taken(self, place):
        """The place, or its successor's place after a roll-out."""
        successor = plan.SUCCESSORS.get(place.name)
        moved = successor and not (self.run.folder / place.name).exists() and (self.run.folder / successor.name).exists()
        return successor if moved else place

    def places(self, kind, region):
        """Where the hosts of a kind stand now."""
        return [machine.place for machine in self.machines.values() if (machine.place.kind, machine.place.region) == (kind, region)]

    def make(self, tell):
        """Creates bare hosts and a balancer in front of them."""
        tell("network, keys and packages")
        self.cloud.make()
        self.credentials.make()
        self._apt_repository()
        self._pager()
        tell(f"{len(self.machines)} hosts")
        for machine in self.machines.values():
            self.start(machine)
        for machine in self.machines.values():
            machine.wait_until_booted()
        self.write_inventory()
        self._balancers()
        self._object_stores()

    def write_inventory(self):
        """Writes the inventory of the present hosts."""
        # A command of ours, bound to this run, replaces the cloud's API.
        cloud = f"env CLUSTER_RUN={self.run.folder} PYTHONPATH={TOP} {sys.executable} -B -m lab.cli"
        places = [machine.place for machine in self.machines.values()]
        inventory.write(self.inventory / "hosts.yml", places, self.credentials, APT_URL, cloud)

    def start(self, machine):
        """Starts a bare host."""
        self._make(machine, FILE_SYSTEMS.get(machine.place.kind, machine.place.kind))
        machine.start()

    def _make(self, machine, kind):
        machine.rootfs = rootfs(kind)
        machine.make(self.credentials)
        machine.know(storage.names())
        if machine.from_cloud():
            machine.find_packages(self.archive.sources())

    def replace(self, machine, kind=None):
        """Removes a host and boots an empty one in its place, with its name and address; `untouched` is a kind, too."""
        machine.remove()
        self._make(machine, kind or machine.place.kind)
        machine.start()
        machine.wait_until_booted()

    def add(self, place):
        """Boots an empty host beside those of its region."""
        machine = self.machines[place.name] = Machine(self.cloud, place)
        self.start(machine)
        machine.wait_until_booted()
        self.write_inventory()

    def remove(self, machine):
        """Removes a host for good."""
        machine.remove()
        del self.machines[machine.name]
        self.write_inventory()

    def _apt_repository(self):
        site = self.run.folder / "site"
        self.archive.make()
        nspawn.run(TOP / "dev", "deb", "--out", site / "debs", timeout=1800)
        self.publish(*(site / "debs").glob("*.deb"))
        server = (sys.executable, "-m", "http.server", "--bind", plan.OPERATOR, "--directory", site, "80")
        self.run.spawn(*server, namespace=self.cloud.operator, **SILENT)

    def _pager(self):
        self.run.spawn(sys.executable, "-Bm", "lab.hosts.pager", pager.path(self.run), namespace=self.cloud.operator, cwd=TOP, **SILENT)

    def publish(self, *packages):
        """Adds packages to the apt repository of the run."""
        repository = self.run.folder / "site/apt"
        nspawn.run(TOP / "dev", "apt-repo", repository, "--key", self.credentials.apt_key, "--url", APT_URL, *packages)

    def _balancers(self):
        text = pathlib.Path(__file__).with_name("haproxy.cfg").read_text()
        for region in self.regions():
            machine = self.machines[f"{region}-lb"]
            servers = (f"    server {balancer.server(place)}\n" for place in self.places("service", region))
            machine.write("/etc/haproxy/haproxy.cfg", text + "".join(servers))
            machine.run("systemctl", "enable", "--now", "haproxy")

    def _object_stores(self):
        program = nspawn.run(TOP / "lab/hosts/s3", timeout=1800).stdout.strip()
        for store in self.machines.values():
            if store.place.kind == "storage":
                storage.install(store, self.credentials, program)

    def playbook(self, name, *arguments, check=True, inventory=None, vault_password=None, **options):
        """Runs a playbook from the operator's place and returns its process; the output goes to ours."""
        command = self.playbook_command(name, *arguments, inventory=inventory, vault_password=vault_password)
        return self.operator(*command, check=check, env=self.environment(), **options)

    def play(self, name, *arguments):
        """Runs a playbook as `./dev play` does for hosts of the cloud: with the lock on the hosts."""
        command = (TOP / "ansible/play", name, "--vault-password-file", self.credentials.vault_password, *arguments)
        told = {"PLAY_INVENTORY": str(self.inventory), "XDG_CACHE_HOME": str(self.venv.parents[1]), "USER": os.environ.get("USER", "root")}
        return self.operator(*command, env=self.environment() | told)

    def playbook_command(self, name, *arguments, inventory=None, vault_password=None):
        command = [self.venv / "bin/ansible-playbook", "--inventory", inventory or self.inventory]
        return [*command, "--vault-password-file", vault_password or self.credentials.vault_password, TOP / "ansible" / name, *arguments]

    def environment(self):
        return {
            "PATH": f"{self.venv}/bin:{nspawn.ENVIRONMENT['PATH']}",
            "HOME": str(self.run.folder),
            "LANG": "C.UTF-8",
            "ANSIBLE_CONFIG": str(TOP / "ansible/ansible.cfg"),
            # As ansible/play does: a quarter of the time.
            "ANSIBLE_STRATEGY": "mitogen_linear",
            "ANSIBLE_STRATEGY_PLUGINS": str(next(self.venv.glob("lib/python3*/site-packages/ansible_mitogen/plugins/strategy"))),
            "PYTHONUNBUFFERED": "1",
            # All hosts share this machine's processors.
            "ANSIBLE_TIMEOUT": "60",
        }

    def operator(self, *command, **options):
        """Runs a command at the operator's place, and ends it with ours."""
        return subprocess.run(self.operator_command(*command), text=True, **options)

    def operator_command(self, *command, group="operator"):
        """The prefix that runs a command at the operator's place; daemons that it leaves behind end with the run."""
        return [*self.run.joining(group), *self.cloud.at_operator(), *map(str, command)]

    def ssh_command(self, name, *command):
        """The command that runs a shell command on a host as root, or logs in there."""
        machine = self.machines[name]
        ssh, target = ["ssh", *self.credentials.ssh_options()], f"{machine.user()}@{machine.address}"
        if machine.user() == "root":
            return [*ssh, target, *command]
        if not command:
            return [*ssh, "-t", target, "sudo --login"]
        # ssh joins the words of a command without quotes, and root's shell splits them again.
        text = "cd\n" + " ".join(map(str, command))
        return [*ssh, target, f"sudo --non-interactive --set-home bash -c {shlex.quote(text)}"]

    def ssh(self, name, *command):
        return self.operator(*self.ssh_command(name, *command), check=True, capture_output=True, timeout=60).stdout

    def members(self, region):
        """A region's members as Patroni lists them; empty if none answers."""
        for place in self.places("database", region):
            url = f"https://{place.address}:8008/cluster"
            with contextlib.suppress(Unusable):
                return {member["name"]: member for member in self.get(url)["members"]}
        return {}

    def leader(self, region):
        """The member that leads a region and holds its lock, or nothing."""
        return next((name for name, member in self.members(region).items() if member["role"] == "leader"), None)

    def regions(self):
        return list(plan.NETWORKS)

    def is_whole(self, region):
        """Whether one member leads and all others follow it on its timeline."""
        members = self.members(region).values()
        leaders = [member for member in members if member["role"] in LEADERS]
        good = [member for member in members if member["state"] == ("running" if member["role"] == "leader" else "streaming")]
        timelines = {member.get("timeline") for member in members}
        return len(leaders) == 1 and len(good) == len(self.places("database", region)) and len(timelines) == 1

    def heal(self):
        """Ends every partition and freeze, and boots what is down."""
        for part in plan.PARTS:
            if self.cloud.is_cut(part):
                self.cloud.heal(part)
        for machine in self.machines.values():
            machine.thaw()
            if not machine.is_up():
                machine.boot()

    def mend(self):
        """Ends every fault and waits until each region is whole."""
        self.heal()
        for region in self.regions():
            self.wait_until_whole(region)
            self.wait_until_served(region)

    # A balancer finds a service host healthy only after two checks.
    def wait_until_served(self, region):
        url = f"http://{self.machines[f'{region}-lb'].address}/healthz"
        nspawn.wait_until(lambda: self.http_status(url) == "200", f"the balancer of region {region} serves", 60)

    # A standby region that was ahead of the next primary is rewound, over the slow network between regions.
    def wait_until_whole(self, region, deadline=300):
        nspawn.wait_until(lambda: self.is_whole(region), f"region {region} whole", deadline)

    def sql(self, region, statement, database="postgres"):
        """The rows of a statement, by the region's leader."""
        leader = nspawn.wait_until(lambda: self.leader(region), f"a leader in region {region}")
        # The statement goes through standard input, because a remote shell would remove its quotes.
        psql = self.ssh_command(leader, "sudo", "-u", "postgres", "psql", "-X", "-At", "-v", "ON_ERROR_STOP=1", "-d", database)
        return self.operator(*psql, input=statement, check=True, capture_output=True, timeout=60).stdout.splitlines()

    def get(self, url):
        """The JSON document at a URL, as the operator sees it."""
        certificate = ("--cacert", self.credentials.ca)
        answer = self.operator("curl", "-sS", "-m", "2", *certificate, url, capture_output=True)
        if answer.returncode != 0:
            raise Unusable(answer.stderr.strip())
        return json.loads(answer.stdout)

    def http_status(self, url, *options):
        """The status of an answer; 000 without an answer."""
        return self.operator("curl", *options, "-s", "-m", "2", "-o", "/dev/null", "-w", "%{http_code}", url, capture_output=True).stdout


def rootfs(kind):
    return nspawn.run(TOP / "lab/hosts/rootfs", kind, timeout=1200).stdout.strip()
