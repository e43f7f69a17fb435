"""The outcomes of a client's requests during a fault."""

import itertools
import json
import os
import subprocess
import sys
import threading
import time

from lab.hosts import nspawn, plan
from lab.hosts.credentials import LOGIN
from tools import TOP


class Ledger:
    """A client's requests, from entry to exit. The client is a separate process at the operator's place, or on another host."""

    client = "lab.clients.client"

    def __init__(self, cluster, balancer, place=None):
        self.cluster, self.target = cluster, cluster.machines[balancer].address
        self.settings = {}
        self.namespace = cluster.machines[place].namespace if place else cluster.cloud.operator

    def __enter__(self):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": os.environ | self.settings}
        self.process = self.cluster.run.spawn(sys.executable, "-Bm", self.client, self.target, namespace=self.namespace, cwd=TOP, **pipes)
        self.requests = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        try:
            self.goes_on()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _read(self):
        for line in self.process.stdout:
            self.requests.append(json.loads(line))

    def goes_on(self, deadline=60):
        """Waits for a few hundred further acknowledgements."""
        now = time.monotonic()
        nspawn.wait_until(lambda: sum(begin > now for begin, _ in self.acknowledgements()) > 100, "acknowledged writes", deadline)

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(60)
        self.reader.join(60)

    def acknowledgements(self):
        return [(begin, end) for kind, begin, end, status, *_ in list(self.requests) if kind == "PUT" and status == 204]

    def acknowledged(self, since=0, until=float("inf")):
        """The writes that were sent in a span of time and acknowledged."""
        sent = [request for request in list(self.requests) if since <= request[1] < until]
        return {name: day for kind, _, _, status, name, day, *_ in sent if kind == "PUT" and status == 204}

    def failed(self, kind):
        return [request for request in self.requests if request[0] == kind and request[3] not in (200, 204)]

    def ends(self):
        """The time of each acknowledgement."""
        return sorted(end for _, end in self.acknowledgements())

    def gap(self, since=None):
        """The longest time without an acknowledgement, or its part after a command: requests under way may still be acknowledged after it."""
        ends = self.ends()
        before, after = max(itertools.pairwise(ends), key=lambda pause: pause[1] - pause[0])
        return after - (before if since is None else since)

    def lost(self, region):
        """The acknowledged writes that a region's leader does not have, or not as they were acknowledged."""
        acknowledged = self.acknowledged()
        # All names of a client start alike.
        ends = zip(min(acknowledged, default=""), max(acknowledged, default=""), strict=False)
        prefix = "".join(one for one, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], ends))
        rows = self.cluster.sql(region, f"select username || ' ' || date_of_birth from users where username like '{prefix}%'", "dob")
        there = dict(row.split() for row in rows)
        return [name for name, day in acknowledged.items() if there.get(name) != day]

    def figures(self):
        reads = sum(request[0] == "GET" for request in self.requests)
        return (
            f"write gap {self.gap():.1f} s, {len(self.acknowledged())} writes acknowledged, {len(self.failed('PUT'))} failed,"
            f" {reads} reads, {len(self.failed('GET'))} failed"
        )


class LibpqLedger(Ledger):
    """Writes of a plain PostgreSQL client, beside those of the service: they show what a fault costs without the service."""

    client = "lab.clients.libpq_client"

    def __init__(self, cluster, place=None):
        super().__init__(cluster, f"{plan.FIRST}-lb", place)
        held = cluster.credentials.secrets()
        hosts = ",".join(one.address for region in cluster.regions() for one in cluster.places("database", region))
        # Without the last three, a lost host would block the client for minutes.
        settings = {"host": hosts, "dbname": "dob", "user": held.get(LOGIN, "dob"), "sslmode": "verify-ca", "sslrootcert": cluster.credentials.ca}
        settings |= {"target_session_attrs": "read-write", "connect_timeout": 2, "tcp_user_timeout": 3000, "keepalives_idle": 2}
        self.target = " ".join(f"{name}={value}" for name, value in settings.items())
        self.settings = {"PGPASSWORD": held["service_database_password"]}

    def __exit__(self, *_):
        super().__exit__()
        self.over = time.monotonic()

    def ends(self):
        # It may not have come back at all.
        return [*super().ends(), self.over]
