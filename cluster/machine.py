"""A host of the cluster."""

import hosts


class Machine(hosts.Host):
    """A Debian host with a key to log in by; another process may have started it."""

    def __init__(self, cloud, place, rootfs=None):
        self.owner, self.network, self.place, self.rootfs = cloud.owner, cloud, place, rootfs
        self.name, self.address = place.name, place.address
        self.namespace = self.owner.full(self.name)
        self.folder = self.owner.folder / self.name
        self.groups = [root / "dob-api" / self.owner.name / self.name for root in hosts.cgroup_roots()]

    def make(self, credentials):
        """Gives the host an empty disk, on which only its own ssh key and the operator's are."""
        super().__init__(self.network, self.name, self.address, self.rootfs)
        ssh = self.folder / "upper/etc/ssh"
        ssh.mkdir(parents=True)
        credentials.host_key(ssh / "ssh_host_ed25519_key", self.address)
        home = self.folder / "upper/root"
        (home / ".ssh").mkdir(mode=0o700, parents=True)
        home.chmod(0o700)
        (home / ".ssh/authorized_keys").write_text(credentials.public_key())
        (self.folder / "rootfs").write_text(str(self.rootfs))

    def know(self, names):
        """Gives the host what a cloud's name service would tell it."""
        (self.folder / "upper/etc/hosts").write_text("127.0.0.1 localhost\n" + names)

    def start(self):
        self.inside("nft", "table inet dead; delete table inet dead")
        self.rootfs = (self.folder / "rootfs").read_text()
        super().start()

    def is_up(self):
        return any(group.exists() for group in self.groups)

    def is_running(self):
        """Whether a process of the host is left: a host that was shut down stays in the books."""
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
        """Ends the host as a power cut does: whoever asks it gets no answer, not even a refusal."""
        drop = "chain silence { type filter hook input priority 0; policy drop; };"
        self.inside("nft", f"table inet dead {{ {drop} }}")
        hosts.wait_until(lambda: not any([hosts.kill(group) for group in self.groups]), f"the end of {self.name}")

    def inside(self, *command):
        """Runs a command of this machine on the host's network."""
        return hosts.run("ip", "netns", "exec", self.namespace, *command)
