"""The parts of a run. Each measures its contenders in turns (A B C A B C ...) and keeps the result of every round."""

import contextlib
import dataclasses
import resource
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from bench import load
from bench.contenders import Contender, Programs, contender, delayed, service_settings
from bench.database import Database
from bench.machine import Noise
from bench.processes import Failure, free_port, own, resident, running

# With one thread pgbench itself is the bottleneck; with two it competes with the server for a processor.
PGBENCH = [(clients, threads) for threads in (1, 2) for clients in (8, 16, 64)]
PEERS = ["axum-sqlx", "actix-deadpool", "go-limits"]
SMALL, LARGE = 10_000, 10_000_000


@dataclasses.dataclass
class Bench:
    """The shared state of all parts."""

    programs: Programs
    database: Database
    noise: Noise
    users: int
    rounds: int
    seconds: int
    quick: bool
    results: dict = dataclasses.field(default_factory=dict)

    def keep(self, part: str, name: str, value: object) -> None:
        self.results.setdefault(part, {}).setdefault(name, []).append(value)

    def each_round(self, part: str, steps: Iterable[tuple[str, Callable[[], object]]]) -> None:
        """Runs every step once per round."""
        steps = list(steps)
        for number in range(1, self.rounds + 1):
            self.noise.calibrate()
            for name, step in steps:
                progress(f"{part}: round {number} of {self.rounds}, {name}")
                self.noise.begin()
                value = step()
                self.noise.end()
                self.keep(part, name, dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value)
            if part in ("put", "mixed"):
                self.database.tidy()

    def saturate(self, part: str, names: list[str], reads: float, connections: int, pgbench: bool) -> None:
        with contextlib.ExitStack() as stack:
            progress(f"{part}: starting {', '.join(names)}")
            started = [stack.enter_context(contender(name, self.programs, self.database, self.users)) for name in names]

            def wrk(one: Contender, seconds: float) -> load.Result:
                return load.saturate(one.address, one.pid, self.database, users=self.users, connections=connections, seconds=seconds, reads=reads)

            for one in started:
                wrk(one, 1)
            steps = [(one.name, lambda one=one: wrk(one, self.seconds)) for one in started]
            if pgbench:
                steps.insert(0, ("pgbench", lambda: self.best_of_pgbench(reads == 1)))
            self.each_round(part, steps)

    def best_of_pgbench(self, reads: bool) -> load.Result:
        seconds = max(2, self.seconds // 2)
        runs = (
            load.pgbench(self.database, users=self.users, reads=reads, seconds=seconds, clients=clients, threads=threads)
            for clients, threads in PGBENCH
        )
        best = max(runs, key=lambda run: run.rate)
        if not best.rate:
            raise Failure("pgbench got nothing done: the machine is too busy, try again when it is quiet")
        return best


def get(bench: Bench) -> None:
    """GETs at saturation, 64 connections."""
    full = [] if bench.quick else ["one-checkout", "go"]
    bench.saturate("get", ["no-store", "dob-api", "dob-api-embedded", *PEERS, *full], 1, 64, pgbench=True)


def put(bench: Bench) -> None:
    """PUTs at saturation, 64 connections."""
    full = [] if bench.quick else ["one-checkout", "go"]
    bench.saturate("put", ["dob-api", "dob-api-embedded", *PEERS, *full], 0, 64, pgbench=True)


def mixed(bench: Bench) -> None:
    """Nine GETs to a PUT, 256 connections."""
    bench.saturate("mixed", ["dob-api", "go-limits"], 0.9, 256, pgbench=False)


def paced(bench: Bench) -> None:
    """4,000 GETs a second with 1 ms of network between service and database."""
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(delayed(bench.programs, bench.database, 500))
        steps = []
        for name in ("dob-api", "one-checkout"):
            one = stack.enter_context(contender(name, bench.programs, bench.database, bench.users, url))
            steps.append(
                (
                    name,
                    lambda one=one: load.pace(
                        bench.programs.peers / "pace", one.address, users=bench.users, rate=4000, seconds=bench.seconds, connections=64
                    ),
                )
            )
        bench.each_round("paced", steps)


def growth(bench: Bench) -> None:
    """The CPU time of a GET at 10 thousand and at 10 million users."""
    for users in (SMALL, LARGE):
        progress(f"growth: filling a table with {users:,} users")
        bench.database.fill(users, f"users{users}", pgbench=False)
    with contextlib.ExitStack() as stack:
        steps = []
        for users in (SMALL, LARGE):
            url = bench.database.url(f"users{users}")
            one = stack.enter_context(contender("dob-api", bench.programs, bench.database, users, url))
            steps.append(
                (
                    str(users),
                    lambda one=one, users=users: load.saturate(
                        one.address, one.pid, bench.database, users=users, connections=64, seconds=bench.seconds, reads=1
                    ),
                )
            )
        bench.each_round("growth", steps)


def memory(bench: Bench) -> None:
    """Resident memory: idle, with 256 connections, after 10,000 came and went; in MB."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    progress("memory: with no, 256 and 10,000 connections")
    with contender("dob-api", bench.programs, bench.database, bench.users) as one:
        bench.keep("memory", "idle", resident(one.pid))
        bench.keep("memory", "idle, its own", own(one.pid))
        with connections(one.address, 256):
            bench.keep("memory", "256 connections", resident(one.pid))
        with connections(one.address, 10_000):
            bench.keep("memory", "10,000 connections", resident(one.pid))
        until_settled(lambda: resident(one.pid))
        bench.keep("memory", "after 10,000 left", resident(one.pid))


@contextlib.contextmanager
def connections(address: str, number: int) -> Iterator[None]:
    """Open connections, each of which was greeted once."""
    host, port = address.split(":")
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_connection((host, int(port)), 10)) for _ in range(number)]
        for one in sockets:
            one.sendall(b"GET /hello/aaaaaaa HTTP/1.1\r\nhost: bench\r\n\r\n")
        for one in sockets:
            if not one.recv(4096).startswith(b"HTTP/1.1 200"):
                raise Failure("a connection was not greeted")
        yield


def until_settled(reading: Callable[[], float]) -> None:
    """Waits until a reading no longer falls."""
    last = reading() + 1
    while (now := reading()) < last:
        last = now
        time.sleep(1)


def start(bench: Bench) -> None:
    """From exec until systemd is told READY and the store was reached, in ms."""
    for name, url in (("embedded", None), ("PostgreSQL", bench.database.url())):
        progress(f"start: {name}")
        for _ in range(3 if bench.quick else 11):
            bench.keep("start", name, exec_to_ready(bench.programs.service, url))


def exec_to_ready(service: Path, url: str | None) -> float:
    with tempfile.TemporaryDirectory(prefix="dob-api-bench-", dir="/var/tmp") as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(f"{folder}/notify")
        notified.settimeout(30)
        address = f"127.0.0.1:{free_port()}"
        settings = service_settings(address, DOB_API_DATA_DIR=folder, NOTIFY_SOCKET=f"{folder}/notify", **({"DATABASE_URL": url} if url else {}))
        began = time.perf_counter()
        with running([str(service)], Path(folder) / "log", settings):
            while b"READY=1" not in notified.recv(4096):
                pass
            while not healthy(address):
                pass
            return (time.perf_counter() - began) * 1000


def healthy(address: str) -> bool:
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), 10) as one:
        one.sendall(b"GET /healthz HTTP/1.1\r\nhost: bench\r\n\r\n")
        return one.recv(4096).startswith(b"HTTP/1.1 200")


def progress(text: str) -> None:
    """Prints progress on standard error."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


# In the order in which they run; quick ones first.
PARTS = {part.__name__: part for part in (start, memory, get, put, mixed, paced, growth)}
QUICK = ["start", "get", "put"]
