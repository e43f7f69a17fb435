"""The plain client of PostgreSQL records what a server acknowledged, and finds the server that takes writes again."""

import json
import pathlib
import shutil
import subprocess
import sys
import threading

import pytest

from lab.hosts import nspawn
from tools import TOP

BINARIES = next(iter(sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))), None)


class Server:
    """A PostgreSQL of this machine, without TCP."""

    def __init__(self, folder, port):
        self.folder, self.port, self.data = folder, port, f"{folder}/{port}"

    def run(self, program, *arguments):
        done = subprocess.run(
            ["runuser", "-u", "postgres", "--", BINARIES / program, *arguments], capture_output=True, text=True, check=False, cwd="/"
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def make(self):
        self.run("initdb", f"--pgdata={self.data}", "--auth=trust", "--username=postgres", "--no-sync")
        self.start()

    def start(self):
        options = f"-p {self.port} -k {self.folder} -c listen_addresses="
        self.run("pg_ctl", "--pgdata", self.data, "--wait", "--log", f"{self.data}.log", "--options", options, "start")

    def stop(self):
        self.run("pg_ctl", "--pgdata", self.data, "--wait", "--mode=immediate", "stop")

    def sql(self, statement):
        where = [f"--host={self.folder}", f"--port={self.port}", "--username=postgres", "postgres"]
        return self.run("psql", "--no-psqlrc", "--tuples-only", "--no-align", "--command", statement, *where).split()


@pytest.fixture
def servers():
    """Two servers with an empty table; the first takes no writes."""
    folder = pathlib.Path(subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip())
    shutil.chown(folder, "postgres")
    made = [Server(folder, port) for port in (5001, 5002)]
    running = []
    try:
        for server in made:
            server.make()
            running.append(server)
            server.sql("create table users (username text primary key, date_of_birth date not null)")
        made[0].sql("alter system set default_transaction_read_only = on")
        made[0].sql("select pg_reload_conf()")
        yield made
    finally:
        for server in running:
            if pathlib.Path(server.data, "postmaster.pid").exists():
                server.stop()
        shutil.rmtree(folder)


def test_a_plain_client_writes_where_writes_are_taken_and_records_what_failed(servers):
    closed, taking = servers
    sockets, ports = f"{closed.folder},{closed.folder}", f"{closed.port},{taking.port}"
    connection = f"host={sockets} port={ports} user=postgres dbname=postgres target_session_attrs=read-write connect_timeout=2"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    requests = []
    client = subprocess.Popen([sys.executable, "-Bm", "lab.clients.libpq_client", connection], cwd=TOP, **pipes)
    reader = threading.Thread(target=lambda: requests.extend(map(json.loads, client.stdout)))
    reader.start()

    def more(status):
        before = len(requests)
        nspawn.wait_until(lambda: sum(request[3] == status for request in requests[before:]) > 3, f"more requests with the status {status}")

    try:
        more(204)
        taking.stop()
        more(0)
        taking.start()
        more(204)
    finally:
        client.stdin.close()
        client.wait(30)
        reader.join(30)
    acknowledged = {request[4] for request in requests if request[3] == 204}
    assert acknowledged <= set(taking.sql("select username from users"))
    assert closed.sql("select count(*) from users") == ["0"]
