"""What is measured: the service with either store, and its peers, each a running program."""

import contextlib
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.database import Database
from bench.processes import Failure, free_port, running, wait_until


@dataclass(frozen=True)
class Programs:
    """The paths of the built programs."""

    service: Path
    peers: Path

    def command(self, name: str, address: str) -> list[str]:
        commands = {
            "go-limits": [str(self.peers / "go-pq"), address, "20"],
            "go": [str(self.peers / "go-pq"), address],
        }
        return commands.get(name) or [str(self.peers / name), address]


# In the order of the figures.
TITLES = {
    "pgbench": "pgbench, its best",
    "no-store": "our HTTP path, no store",
    "dob-api": "dob-api",
    "dob-api-embedded": "dob-api, embedded store",
    "one-checkout": "our HTTP path, a checkout per request",
    "actix-deadpool": "actix-web + deadpool",
    "axum-sqlx": "axum + sqlx",
    "go-limits": "Go net/http + lib/pq, pool limits",
    "go": "Go net/http + lib/pq, no limits",
}


@dataclass
class Contender:
    """One running program."""

    name: str
    address: str
    pid: int


def service_settings(address: str, **others: str) -> dict[str, str]:
    return {"DOB_API_LISTEN": address, "DOB_API_ADMIN_LISTEN": "127.0.0.1:0", "DOB_API_DRAIN_DELAY": "0s", "RUST_LOG": "error", **others}


@contextlib.contextmanager
def contender(name: str, programs: Programs, database: Database, users: int, url: str | None = None) -> Iterator[Contender]:
    """Starts the program of this name on the database at `url`."""
    address = f"127.0.0.1:{free_port()}"
    folder = Path(tempfile.mkdtemp(prefix="dob-api-bench-", dir="/var/tmp"))
    log = folder / "log"
    environment = {"DATABASE_URL": url or database.url()}
    command = programs.command(name, address)
    if name.startswith("dob-api"):
        command = [str(programs.service)]
        environment = service_settings(address, **environment)
    if name == "dob-api-embedded":
        subprocess.run([str(programs.peers / "fill-embedded"), str(folder), str(users)], check=True)
        environment = service_settings(address, DOB_API_DATA_DIR=str(folder))
    try:
        with running(command, log, environment) as process:
            wait_until(lambda: greets(address), process, name, log)
            yield Contender(name, address, process.pid)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def greets(address: str) -> bool:
    """Whether the first user is greeted; a wrong greeting is a failure, not something to wait for."""
    try:
        with urllib.request.urlopen(f"http://{address}/hello/Aaaaaaa", timeout=2) as answer:
            text = answer.read().decode()
    except OSError:
        return False
    if '"message":"Hello, Aaaaaaa!' not in text:
        raise Failure(f"{address} greets wrongly: {text}")
    return True


@contextlib.contextmanager
def delayed(programs: Programs, database: Database, one_way: int) -> Iterator[str]:
    """The database's URL behind a network that adds `one_way` microseconds in each direction."""
    with tempfile.TemporaryDirectory(prefix="dob-api-bench-") as folder:
        log = Path(folder) / "log"
        command = [str(programs.peers / "delay"), f"127.0.0.1:{database.port}", str(one_way)]
        with running(command, log) as process:
            wait_until(lambda: log.read_text().endswith("\n"), process, "the delaying path", log)
            yield database.url(port=int(log.read_text().strip().rpartition(":")[2]))
