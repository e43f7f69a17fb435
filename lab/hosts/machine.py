"""A host of the cluster."""

import contextlib
import json
import os
import pathlib

from lab.hosts import nspawn

# The data of a database host, on a separate volume as in the cloud: only that volume fills up.
DATA = "var/lib/postgresql"
# Sparse: it uses this machine's disk only for written data. Larger than all WAL that may wait for buckets or slots.
VOLUME = "16G"
# The files that limit a control group's memory, in either layout.
LIMITS = ("memory.limit_in_bytes", "memory.max")
# Hosts that start like a cloud's image; the others come from our own image.
FROM_CLOUD = ("database", "monitoring")
# The user of the cloud's image, with sudo; root has no login there.
CLOUD_USER = "admin"


class Machine(nspawn.Host):
    """A Debian host with a key to log in by; another process may have started it."""

    def __init__(self, cloud, place, rootfs=None):
        self.owner, self.network, self.place, self.rootfs = cloud.owner, cloud, place, rootfs
        self.name, self.address = place.name, place.address
        self.namespace = self.owner.full(self.name)
        self.folder = self.owner.folder / self.name
        self.volume = self.folder / "volume"
        self.groups = [root / "dob-api" / self.owner.name / self.name for root in nspawn.cgroup_roots()]

    def make(self, credentials):
        """Gives the host an empty disk with only its ssh key and the operator's."""
        super().__init__(self.network, self.name, self.address, self.rootfs)
        (self.folder / "rootfs").write_text(str(self.rootfs))
        if self.from_cloud():
            self._seed(credentials)
        else:
            self._let_root_in(credentials)
        if self.place.kind == "database":
            self._make_volume()

    def from_cloud(self):
        return self.place.kind in FROM_CLOUD

    def user(self):
        """The user who may log in."""
        return CLOUD_USER if self.from_cloud() else "root"

    def _let_root_in(self, credentials):
        ssh = self.folder / "upper/etc/ssh"
        ssh.mkdir(parents=True)
        credentials.host_key(ssh / "ssh_host_ed25519_key", self.address)
        home = self.folder / "upper/root"
        (home / ".ssh").mkdir(mode=0o700, parents=True)
        home.chmod(0o700)
        (home / ".ssh/authorized_keys").write_text(credentials.public_key())

    def _seed(self, credentials):
        """Writes what a cloud tells cloud-init on the host's first boot; the name is one of the cloud's own."""
        key = self.folder / "host_key"
        credentials.host_key(key, self.address)
        seed = self.folder / "upper/var/lib/cloud/seed/nocloud"
        seed.mkdir(parents=True)
        name = f"ip-{self.address.replace('.', '-')}"
        (seed / "meta-data").write_text(json.dumps({"instance-id": f"i-{os.urandom(8).hex()}", "local-hostname": name}))
        data = {
            "ssh_authorized_keys": [credentials.public_key().strip()],
            "ssh_keys": {"ed25519_private": key.read_text(), "ed25519_public": key.with_suffix(".pub").read_text()},
            "apt": {"preserve_sources_list": True},
        }
        (seed / "user-data").write_text(f"#cloud-config\n{json.dumps(data)}\n")
        (seed / "user-data").chmod(0o600)

    def find_packages(self, sources):
        """Configures Debian's archive on the host, without package lists."""
        folder = self.folder / "upper/etc/apt/sources.list.d"
        folder.mkdir(parents=True)
        (folder / "debian.sources").write_text(sources)

    def _make_volume(self):
        """Gives a database host an empty file system of fixed size for its data."""
        nspawn.run("truncate", "--size", VOLUME, self.volume)
        # An untouched host has no user yet to own it.
        there = os.path.exists(f"{self.rootfs}/{DATA}")
        owner = os.stat(f"{self.rootfs}/{DATA if there else ''}")
        features = f"root_owner={owner.st_uid}:{owner.st_gid},lazy_itable_init=1,lazy_journal_init=1"
        # Few inodes, and their tables never zeroed in the background: the image stays small.
        nspawn.run("mkfs.ext4", "-q", "-m", "0", "-i", "262144", "-E", features, self.volume)
        nspawn.run("tune2fs", "-E", "mount_opts=noinit_itable", self.volume)

    def volumes(self):
        if not self.volume.exists():
            return ""
        data = f"{self.tree}/{DATA}"
        return f"mkdir -p {data} && mount -o loop,discard {self.volume} {data} && device=$(findmnt --noheadings --output=SOURCE {data}) &&"

    def joins(self):
        # A host sees its disks.
        return super().joins() + (' --bind="$device"' if self.volume.exists() else "")

    def enlarge(self, size):
        """Gives the data volume another size while the host runs, as a cloud does: the kernel sees it, and the file system is what it was."""
        nspawn.run("truncate", "--size", size, self.volume)
        device = nspawn.run("losetup", "--noheadings", "--output=NAME", "--associated", self.volume).stdout.strip()
        nspawn.run("losetup", "--set-capacity", device)

    def know(self, names):
        """Writes the names that a cloud's name service would resolve."""
        if not self.from_cloud():
            (self.folder / "upper/etc/hosts").write_text("127.0.0.1 localhost\n" + names)
            return
        # cloud-init writes /etc/hosts from it at each boot.
        template = "etc/cloud/templates/hosts.debian.tmpl"
        own = self.folder / "upper" / template
        own.parent.mkdir(parents=True)
        own.write_text(pathlib.Path(self.rootfs, template).read_text() + names)

    def start(self):
        self.inside("nft", "table inet dead; delete table inet dead")
        self.rootfs = (self.folder / "rootfs").read_text()
        if self.volume.exists():
            # The kernel unmounts it some time after the last process of the host has gone.
            nspawn.wait_until(lambda: not nspawn.run("losetup", "--associated", self.volume).stdout, f"{self.name} has let go of its volume")
        for group in self.owner.groups(self.name):
            for limit in (group / name for name in LIMITS if self.size() and (group / name).exists()):
                limit.write_text(self.size())
        super().start()

    def size(self, kind="now"):
        """The host's memory now, or its `wanted` memory, in bytes; nothing if it has no limit."""
        file = self.folder / f"size-{kind}"
        return file.read_text() if file.exists() else ""

    def give(self, size):
        """Sets the memory from the host's next start on; a running host keeps its size, as in a cloud."""
        if self.is_running():
            raise nspawn.Failed(f"IncorrectInstanceState: {self.name} runs")
        (self.folder / "size-now").write_text(size)

    def want(self, size):
        """Records the wanted size, as Terraform writes a tag: the host keeps its present size."""
        (self.folder / "size-wanted").write_text(size)

    def shut_down(self):
        """Shuts the host down like its power button: its services stop in order."""
        nspawn.run("kill", "-TERM", self._container())
        nspawn.wait_until(lambda: not self.is_running(), f"{self.name} is off", 120)
        nspawn.kill(self.groups, self.name)

    def _container(self):
        """The process that runs the host, which another process may have started: the first of its name."""
        processes = {int(line) for group in self.groups for file in group.rglob("cgroup.procs") for line in file.read_text().split()}
        return min(one for one in processes if _named(one) == "systemd-nspawn")

    def is_up(self):
        return any(group.exists() for group in self.groups)

    def is_running(self):
        """Whether a process of the host is left: a host that was shut down stays registered."""
        return any(processes.read_text() for group in self.groups for processes in group.rglob("cgroup.procs"))

    def is_frozen(self):
        return any(path.read_text().strip() in ("FROZEN", "1") for path, *_ in self._freezers())

    def freeze(self):
        for path, frozen, _ in self._freezers():
            path.write_text(frozen)

    def thaw(self):
        for path, _, thawed in self._freezers():
            path.write_text(thawed)

    def _freezers(self):
        states = [("freezer.state", "FROZEN", "THAWED"), ("cgroup.freeze", "1", "0")]
        return [(group / name, frozen, thawed) for group in self.groups for name, frozen, thawed in states if (group / name).exists()]

    def kill(self):
        """Kills the host like a power cut: clients get no answer, not even a refusal."""
        drop = "chain silence { type filter hook input priority 0; policy drop; };"
        self.inside("nft", f"table inet dead {{ {drop} }}")
        nspawn.kill(self.groups, self.name)

    def inside(self, *command):
        """Runs a command of this machine on the host's network."""
        return nspawn.run("ip", "netns", "exec", self.namespace, *command)


def _named(process):
    """The name of a process; none if it has ended meanwhile."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return pathlib.Path(f"/proc/{process}/comm").read_text().strip()
    return None
