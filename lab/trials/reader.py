"""A person who follows a runbook: at the operator's place, and on the hosts."""

import shlex
import subprocess

from docs.runbooks import pages as runbooks
from lab.clients import prometheus
from lab.hosts import plan
from tools import TOP

# The host that pages name as an example.
EXAMPLE = "a-db2"
# Longer than any playbook takes.
PATIENCE_S = 1200


class Reader:
    """Runs what pages say, where they say it."""

    def __init__(self, cluster, folder, host=None):
        """`host` is the one that the alert is about."""
        self.cluster, self.folder, self.host = cluster, folder, host

    def places(self):
        """The host that each mark means; the operator's place has none."""
        primary = next(filter(None, map(self.cluster.leader, self.cluster.regions())))
        members = [place.name for place in plan.databases(self.cluster.machines[primary].place.region)]
        return {
            "primary": primary,
            "replica": self.about(members[1:]) or next(name for name in members if name != primary),
            "database": self.about(members) or members[0],
            # Region a's may have come by a roll-out, and are watched only after the next run of site.
            "service": self.about([place.name for place in self.cluster.places("service", "a")]) or self.cluster.places("service", "b")[0].name,
            "monitor": prometheus.monitor("a"),
            "host": self.host,
        }

    def about(self, names):
        """The host of the alert, if it is one of these: that is where its page is followed."""
        return self.host if self.host in names else None

    def own(self, *options):
        """The commands that are a person's own at the operator's place: they know the hosts by name, and what opens the vault."""
        names = self.folder / "ssh"
        machines = self.cluster.machines.items()
        names.write_text("".join(f"Host {name}\n HostName {machine.address}\n User {machine.user()}\n" for name, machine in machines))
        ssh = shlex.join(["command", "ssh", "-F", str(names), *self.cluster.credentials.ssh_options()])
        playbook = shlex.join(["--vault-password-file", str(self.cluster.credentials.vault_password), *options])
        # Pages name commands of root's; a person has an alias that gives them.
        root = '"$1" "sudo --non-interactive --set-home bash -c $(printf %q "${*:2}")"'
        return f'ssh() {{ {ssh} {root}; }}; ansible-playbook() {{ command ansible-playbook "$@" {playbook}; }}; '

    def filled(self, commands):
        """The commands with this cluster's names in the places of the page's."""
        text = commands.replace("INVENTORY", str(self.cluster.inventory)).replace("BALANCER", self.cluster.machines["a-lb"].address)
        return text.replace(EXAMPLE, self.host) if self.host else text

    def run(self, where, commands):
        """What came of some commands: a playbook runs for real."""
        place = None if where in ("operator", "playbook") else self.places()[where]
        text = self.filled(commands)
        if place:
            shell = self.cluster.ssh_command(place, f"cd / && bash -o pipefail -c {shlex.quote(text)}")
        else:
            shell = ["bash", "-o", "pipefail", "-c", self.own() + text]
        here = {"cwd": TOP / "ansible", "env": self.cluster.environment(), "stdin": subprocess.DEVNULL}
        return self.cluster.operator(*shell, **here, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PATIENCE_S)

    def checks(self, page):
        """The page's checks that fail, with what they said."""
        blocks = [
            (runbooks.CHECKS[block.mark], block.commands) for block in runbooks.blocks() if block.page == page and block.mark in runbooks.CHECKS
        ]
        done = [(commands, self.run(where, commands)) for where, commands in blocks]
        return [f"{commands}{run.stdout}" for commands, run in done if run.returncode != 0]
