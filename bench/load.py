"""Load: wrk at full speed, pgbench on the same SQL, and requests at a fixed rate."""

import random
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.database import Database
from bench.processes import Failure, cpu_seconds

HERE = Path(__file__).parent

# pgbench runs the peers' statements, on names of digits.
READ = """\\set id random(10000000, {last})
SELECT date_of_birth FROM digits WHERE username = :id;
"""
WRITE = """\\set id random(10000000, {last})
\\set days random(0, 30000)
INSERT INTO digits (username, date_of_birth) VALUES (:id, date '1910-01-01' + :days::int)
ON CONFLICT (username) DO UPDATE SET date_of_birth = excluded.date_of_birth;
"""


@dataclass
class Result:
    """The result of a measurement: per second, microseconds, microseconds of CPU per request."""

    rate: float
    p50: float
    p99: float
    cpu_service: float
    cpu_database: float


def saturate(address: str, pid: int, database: Database, *, users: int, connections: int, seconds: float, reads: float) -> Result:
    """As many requests as the program answers; `reads` is the share of GETs."""
    before = cpu_seconds(pid), database.cpu_seconds()
    said = _run(
        [
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{seconds}s",
            "-s",
            str(HERE / "requests.lua"),
            f"http://{address}",
            "--",
            str(users),
            str(random.randrange(2**31)),
            str(reads),
        ]
    )
    after = cpu_seconds(pid), database.cpu_seconds()
    found = re.search(r"^measured (\d+) ([\d.]+) (\d+) (\d+) (\d+)$", said, re.MULTILINE)
    if not found:
        raise Failure(f"wrk said something unexpected: {said[-500:]}")
    requests, took, failures, p50, p99 = map(float, found.groups())
    if failures > requests * 0.001:
        raise Failure(f"{failures:.0f} of {requests:.0f} requests failed at {address}")
    return Result(requests / took, p50, p99, *((now - then) / requests * 1e6 for then, now in zip(before, after, strict=True)))


def pgbench(database: Database, *, users: int, reads: bool, seconds: int, clients: int, threads: int) -> Result:
    """pgbench's own rate over TCP with prepared statements."""
    script = database.folder / ("read.sql" if reads else "write.sql")
    script.write_text((READ if reads else WRITE).format(last=10_000_000 + users - 1))
    before = database.cpu_seconds()
    said = _run(
        [
            str(database.programs / "pgbench"),
            "-n",
            "-M",
            "prepared",
            "-h",
            "127.0.0.1",
            "-p",
            str(database.port),
            "-U",
            "postgres",
            "-c",
            str(clients),
            "-j",
            str(threads),
            "-T",
            str(seconds),
            "-f",
            str(script),
            "bench",
        ]
    )
    found = re.search(r"actually processed: (\d+).*^latency average = ([\d.]+).*^tps = ([\d.]+)", said, re.MULTILINE | re.DOTALL)
    if not found and "actually processed: 0" in said:
        # On a busy machine, the time may end before all clients have connected.
        return Result(0, 0, 0, 0, 0)
    if not found:
        raise Failure(f"pgbench said something unexpected: {said[-500:]}")
    number, latency, rate = map(float, found.groups())
    return Result(rate, latency * 1000, 0, 0, (database.cpu_seconds() - before) / number * 1e6)


def pace(program: Path, address: str, *, users: int, rate: int, seconds: int, connections: int) -> tuple[float, float]:
    """p50 and p99 in microseconds at a fixed rate."""
    letters = str.maketrans("0123456789", "abcdefghij")
    names = "\n".join(f"{random.randrange(users):07}".translate(letters) for _ in range(connections * 200))
    said = _run([str(program), address, str(rate), str(seconds), str(connections)], names)
    p50, p99, _ = map(float, said.split())
    return p50, p99


def _run(command: list[str], text: str | None = None) -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        raise Failure(f"{Path(command[0]).name} failed: {(done.stderr or done.stdout).strip()[-500:]}")
    return done.stdout
