"""The network between the hosts, and what cuts it."""

import pathlib
import subprocess
import sys

from lab.hosts import nspawn, plan

WAN = pathlib.Path(__file__).with_name("wan.py")
DELAY_MS = 20

CUT = """
table inet {name} {{
    chain between {{ type filter hook forward priority 0; {rules} }}
}}
table bridge {name} {{
    chain within {{ type filter hook forward priority 0; {rules} }}
}}
"""


class Cloud(nspawn.Network):
    """The subnets of all zones, and the operator's place beside them; another process may have created them."""

    def __init__(self, run):
        self.owner = run
        self.namespace = run.full("net")
        self.operator = run.full("operator")

    def make(self):
        super().__init__(self.owner, *plan.SUBNETS)
        self.attach("operator", plan.OPERATOR)
        self._delay()

    def _delay(self):
        """Sends traffic between the regions through devices that delay it."""
        with (self.owner.folder / "wan.log").open("w") as log:
            command = (sys.executable, WAN, *(f"wan-{region}" for region in plan.NETWORKS), DELAY_MS)
            wan = self.owner.spawn(*command, namespace=self.namespace, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
        wan.stdout.readline()
        for table, (region, network) in enumerate(plan.NETWORKS.items(), 101):
            self.ip("link", "set", f"wan-{region}", "up")
            self.ip("route", "add", "default", "dev", f"wan-{region}", "table", str(table))
            for subnet in plan.SUBNETS:
                if subnet.startswith(f"{network}."):
                    for away in set(plan.NETWORKS.values()) - {network}:
                        self.ip("rule", "add", "iif", self.bridge(subnet), "to", f"{away}.0.0/16", "lookup", str(table))

    def at_operator(self):
        """The prefix that starts a command at the operator's place. The command sees this machine's control groups, which `ip netns exec` hides."""
        return ["nsenter", f"--net=/run/netns/{self.operator}"]

    def cut(self, part):
        """Drops every packet between a host, a zone or a region and the rest of the world."""
        inside = plan.PARTS[part]
        rules = f"ip saddr {inside} ip daddr != {inside} drop; ip daddr {inside} ip saddr != {inside} drop;"
        self.nft(CUT.format(name=table(part), rules=rules))

    def heal(self, part):
        self.nft(f"delete table inet {table(part)}; delete table bridge {table(part)};")

    def is_cut(self, part):
        return part in self.cuts()

    def cuts(self):
        """The parts that are cut off."""
        tables = nspawn.run("ip", "netns", "exec", self.namespace, "nft", "list", "tables").stdout.splitlines()
        return {part for part in plan.PARTS if f"table inet {table(part)}" in tables}

    def nft(self, rules):
        nspawn.run("ip", "netns", "exec", self.namespace, "nft", "-f", "-", input=rules)


def table(part):
    return f"cut_{part.replace('-', '_')}"
