"""Whole Debian hosts on this machine: booted containers, in separate networks.

A Run owns everything it starts: processes by a cgroup, namespaces by a prefix, files by a folder. What a killed run
left behind is swept away by the next one, which tells the dead from the living by a lock that dies with its holder.
"""

import contextlib
import fcntl
import os
import pathlib
import re
import secrets
import shutil
import signal
import subprocess
import time

RUNS = pathlib.Path("/var/tmp/dob-api-hosts")
CONTROLLERS = {"name=systemd", "memory", "cpu", "cpuacct", "pids", "freezer", "blkio"}
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/root", "DEBIAN_FRONTEND": "noninteractive"}


class Failed(Exception):
    """A command that failed, with its output."""


def run(*command, check=True, timeout=300, **options):
    """Runs a command to its end and returns it, with its output as text."""
    done = subprocess.run([str(part) for part in command], timeout=timeout, text=True, capture_output=True, **options)
    if check and done.returncode != 0:
        raise Failed(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def wait_until(condition, what, deadline=30):
    """Returns the first true value of `condition`, or fails after `deadline` seconds."""
    end = time.monotonic() + deadline
    while True:
        begun = time.monotonic()
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"not within {deadline} s: {what}")
        # Waits as long as the check took, so that waiting does not slow down the work that is waited for.
        time.sleep(max(0.02, time.monotonic() - begun))


def children(process):
    """The processes that a process has started; none if it has ended meanwhile."""
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return []


def cgroup_roots():
    """The cgroup hierarchies a host needs, whether this machine has the old layout, the unified one, or both."""
    for line in pathlib.Path("/proc/mounts").read_text().splitlines():
        _, path, kind, options, *_ = line.split()
        if kind == "cgroup2" or (kind == "cgroup" and CONTROLLERS & set(options.split(","))):
            yield pathlib.Path(path)


class Run:
    """Everything that one run of tests starts."""

    def __init__(self):
        RUNS.mkdir(mode=0o700, exist_ok=True)
        sweep()
        with registry():
            self.folder = RUNS / secrets.token_hex(4)
            self.folder.mkdir(mode=0o700)
            self.lock = (self.folder / "lock").open("w")
            fcntl.flock(self.lock, fcntl.LOCK_EX)
        self.name = self.folder.name

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with registry():
            remove(self.folder)
        self.lock.close()

    def namespace(self, name):
        """Creates a network namespace and returns its full name."""
        full = f"dob-{self.name}-{name}"
        run("ip", "netns", "add", full)
        run("ip", "-n", full, "link", "set", "lo", "up")
        return full

    def spawn(self, *command, namespace=None, group="run", **options):
        """Starts a process that cannot outlive the run."""
        groups = self.groups(group)

        def join():
            for path in groups:
                (path / "cgroup.procs").write_text("0")

        enter = ["ip", "netns", "exec", namespace] if namespace else []
        return subprocess.Popen([*enter, *map(str, command)], preexec_fn=join, start_new_session=True, **options)

    def groups(self, name):
        """Creates the control groups of a part of the run."""
        groups = [root / "dob-api" / self.name / name for root in cgroup_roots()]
        for path in groups:
            path.mkdir(parents=True, exist_ok=True)
            weigh(path.parents[1])
            weigh(path.parents[0])
        return groups

    def joining(self, name):
        """The prefix of a command that keeps it and its children from outliving the run."""
        join = "".join(f"echo 0 >{path}/cgroup.procs; " for path in self.groups(name))
        return ["sh", "-ec", f'{join} exec "$@"', "joining"]


def weigh(group):
    """Gives a group the processor time of ten processes. Otherwise all hosts together would get as much as one process outside."""
    for name, weight in (("cpu.shares", "10240"), ("cpu.weight", "1000")):
        with contextlib.suppress(OSError):
            (group / name).write_text(weight)


@contextlib.contextmanager
def registry():
    """Keeps other runs away while this one is created or removed: without its lock, it would seem dead."""
    folder = os.open(RUNS, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def sweep():
    """Removes what runs that were killed left behind."""
    if not RUNS.exists():
        return
    with registry():
        for folder in RUNS.iterdir():
            try:
                with (folder / "lock").open("a") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    remove(folder)
            except BlockingIOError:
                pass


def remove(folder):
    """Stops and removes everything of one run."""
    groups = [root / "dob-api" / folder.name for root in cgroup_roots()]
    kill(groups, f"run {folder.name}")
    for name in run("ip", "netns", "list").stdout.split():
        if name.startswith(f"dob-{folder.name}-"):
            run("ip", "netns", "del", name)
    for group in groups:
        with contextlib.suppress(OSError):
            group.parent.rmdir()
    shutil.rmtree(folder)


def kill(groups, what):
    """Kills everything that cgroups hold and removes them."""
    wait_until(lambda: sum(map(remains, groups)) == 0, f"the end of {what}")


def remains(group):
    """Kills a cgroup's processes and removes it; true while something is left."""
    for path, _, _ in os.walk(group, topdown=False):
        with contextlib.suppress(OSError):
            (pathlib.Path(path) / "freezer.state").write_text("THAWED")
        with contextlib.suppress(OSError):
            for pid in (pathlib.Path(path) / "cgroup.procs").read_text().split():
                os.kill(int(pid), signal.SIGKILL)
        with contextlib.suppress(OSError):
            os.rmdir(path)
    return group.exists()


class Network:
    """Subnets /24 with a router between them, cut off from this machine's own network."""

    def __init__(self, owner, *subnets):
        self.owner = owner
        self.namespace = owner.namespace("net")
        run("ip", "netns", "exec", self.namespace, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        for subnet in subnets:
            self.ip("link", "add", self.bridge(subnet), "type", "bridge")
            self.ip("address", "add", f"{subnet}.1/24", "dev", self.bridge(subnet))
            self.ip("link", "set", self.bridge(subnet), "up")

    @staticmethod
    def bridge(subnet):
        return f"br{subnet}"

    def ip(self, *command):
        return run("ip", "-n", self.namespace, *command)

    def attach(self, name, address):
        """Creates a namespace with this address and returns its full name."""
        subnet, _, _ = address.rpartition(".")
        namespace = self.owner.namespace(name)
        # A host that replaces another one is reachable at once: no old link-layer address has to expire first.
        link = "02:00:" + ":".join(f"{int(byte):02x}" for byte in address.split("."))
        self.ip("link", "add", name, "type", "veth", "peer", "name", "host0", "address", link, "netns", namespace)
        self.ip("link", "set", name, "master", self.bridge(subnet), "up")
        run("ip", "-n", namespace, "address", "add", f"{address}/24", "dev", "host0")
        run("ip", "-n", namespace, "link", "set", "host0", "up")
        run("ip", "-n", namespace, "route", "add", "default", "via", f"{subnet}.1")
        return namespace

    def detach(self, name):
        run("ip", "netns", "del", f"dob-{self.owner.name}-{name}")
        # The kernel removes a namespace, and the peer with it, some time after its last process has gone.
        run("ip", "-n", self.namespace, "link", "del", name, check=False)


class Host:
    """A Debian host, booted by systemd on a throw-away layer over a root file system."""

    def __init__(self, network, name, address, rootfs):
        self.owner, self.network, self.name, self.address = network.owner, network, name, address
        self.namespace = network.attach(name, address)
        self.folder = self.owner.folder / name
        for part in (self.folder / "upper", self.folder / "work", self.tree):
            part.mkdir(parents=True)
        self.rootfs = rootfs
        self.leader = None

    @property
    def tree(self):
        """Where the host's file system is mounted, in its own mount namespace."""
        return self.folder / "root"

    def boot(self):
        """Starts the host and waits until systemd has started everything."""
        self.start()
        return self.wait_until_booted()

    def start(self):
        # The mount namespace is the host's own, so the overlay goes when the host does.
        layers = f"lowerdir={self.rootfs},upperdir={self.folder}/upper,workdir={self.folder}/work"
        boot = (
            f"systemd-nspawn --quiet --boot --directory={self.tree} --machine={self.name} --hostname={self.name}"
            f" {self.joins()} --register=no --keep-unit --console=passive"
            " --link-journal=no --resolv-conf=off --timezone=off"
        )
        # It exits with 133 where the host reboots itself.
        script = f"mount -t overlay overlay -o {layers} {self.tree} && {self.volumes()} while {boot}; [ $? = 133 ]; do :; done"
        with (self.folder / "console").open("ab") as console:
            self.process = self.owner.spawn(
                *("unshare", "--mount", "sh", "-c", script),
                group=self.name,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            )

    def joins(self):
        """The arguments of systemd-nspawn for the network."""
        return f"--network-namespace-path=/run/netns/{self.namespace}"

    def volumes(self):
        """The commands, each followed by `&&`, that mount further disks under the host's root."""
        return ""

    def wait_until_booted(self):
        self.leader = wait_until(self._init, f"{self.name} starts", 120)
        states = ("running", "degraded")
        asked = ("systemctl", "is-system-running", "--wait")
        wait_until(lambda: self.run(*asked, check=False).stdout.strip() in states, f"{self.name} boots", 180)
        return self

    def _init(self):
        if self.process.poll() is not None:
            raise Failed(f"{self.name} did not start:\n{(self.folder / 'console').read_text(errors='replace')}")
        for child in (own for nspawn in children(self.process.pid) for own in children(nspawn)):
            with contextlib.suppress(OSError):
                status = pathlib.Path(f"/proc/{child}/status").read_text()
                # Other processes come and go: mount, and helpers of systemd-nspawn.
                if "Name:\tsystemd\n" in status and re.search(r"^NSpid:.*\t1$", status, re.M):
                    return int(child)
        return None

    def run(self, *command, **options):
        """Runs a command on the host as root."""
        environment = [f"{name}={value}" for name, value in ENVIRONMENT.items()]
        return run("nsenter", "-t", self.leader, "-a", "env", "-i", *environment, *command, **options)

    def shell(self, script, **options):
        return self.run("sh", "-euc", script, **options)

    def write(self, path, text, mode=0o644):
        target = pathlib.Path(f"/proc/{self.leader}/root") / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)

    def spawn(self, *command, **options):
        """Starts a program of this machine on the host's network."""
        return self.owner.spawn(*command, namespace=self.namespace, group=self.name, **options)

    def kill(self):
        """Kills the host like a power cut; its disk stays."""
        groups = [root / "dob-api" / self.owner.name / self.name for root in cgroup_roots()]
        kill(groups, self.name)
        self.process.wait()

    def remove(self):
        self.kill()
        self.network.detach(self.name)
        shutil.rmtree(self.folder)
