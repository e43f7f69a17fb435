"""A region's balancer with a cloud's API: register, describe and deregister targets while it serves."""

import csv
import json
import shlex
import subprocess
import threading
import time

from lab.hosts import nspawn

# Two checks in a row change a target's health; a cloud's balancer accepts a new target after one success.
CHECK = "check inter 5s rise 2 fall 2"

# Each line goes to HAProxy's runtime API, which only root on the balancer may use.
RELAY = """
import json, socket, sys
for line in sys.stdin:
    with socket.socket(socket.AF_UNIX) as haproxy:
        haproxy.connect("/run/haproxy/admin.sock")
        haproxy.sendall(line.encode())
        print(json.dumps(haproxy.makefile().read()), flush=True)
"""


def server(place):
    return f"{place.name} {place.address}:8080 {CHECK}"


class Balancer:
    """A conversation with a balancer, from entry to exit."""

    def __init__(self, cluster, region):
        relay = cluster.ssh_command(f"{region}-lb", "python3", "-c", shlex.quote(RELAY))
        self.command = [*cluster.cloud.at_operator(), *relay]

    def __enter__(self):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        # In a separate session: after Ctrl-C it is needed to undo what was started.
        self.process = subprocess.Popen(self.command, start_new_session=True, **pipes)
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()

    def ask(self, *commands):
        self.process.stdin.write("; ".join(commands) + "\n")
        self.process.stdin.flush()
        if not (answer := self.process.stdout.readline()):
            raise nspawn.Failed("the balancer's interface ended: is its host up?")
        return json.loads(answer)

    def register(self, place):
        """Adds a target, which gets no request before its health checks pass."""
        name = f"service/{place.name}"
        said = self.ask(f"add server {server(place).replace(place.name, name, 1)}")
        if "New server registered" not in said:
            raise nspawn.Failed(f"the balancer does not take {place.name}: {said.strip()}")
        # HAProxy treats an enabled target as healthy until it is checked. With weight 0 it gets no requests meanwhile.
        start = (f"set server {name} weight 0", f"enable health {name}", f"set server {name} state ready")
        self.ask(*start, f"set server {name} health down", f"set server {name} weight 1")

    def deregister(self, place):
        """Sends no new request to a target; requests in flight continue."""
        self.ask(f"set server service/{place.name} state drain")

    def remove(self, place):
        """Removes a drained target."""
        name = f"service/{place.name}"
        said = self.ask(f"set server {name} state maint", f"wait 20s srv-removable {name}", f"del server {name}")
        if "Server deleted" not in said:
            raise nspawn.Failed(f"the balancer does not let go of {place.name}: {said.strip()}")

    def targets(self):
        """The state of each target, by name."""
        rows = csv.DictReader(self.ask("show stat service 4 -1").lstrip("# ").splitlines())
        return {row["svname"]: row for row in rows}


class Watch:
    """The balancer's counters for each target, every half second, from entry to exit."""

    def __init__(self, cluster, region):
        self.balancer = Balancer(cluster, region)
        self.samples, self.end = [], threading.Event()

    def __enter__(self):
        self.balancer.__enter__()
        self.thread = threading.Thread(target=self._look, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.end.set()
        self.thread.join(30)
        self.balancer.__exit__()

    def _look(self):
        while not self.end.wait(0.5):
            targets = self.balancer.targets()
            self.samples.append((time.monotonic(), {name: int(target["hrsp_2xx"]) for name, target in targets.items()}))
