"""Processes that end with this one, and their cost."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


class Failure(Exception):
    """An error in one sentence that tells the user how to continue."""


@contextlib.contextmanager
def running(
    command: list[str], log: Path, environment: dict[str, str] | None = None, user: str | None = None, ends_by: int = signal.SIGKILL
) -> Iterator[subprocess.Popen]:
    """A process that ends with the block, and, should this process be killed, with it."""
    account = ["--reuid", user, "--regid", user, "--clear-groups"] if user and os.getuid() == 0 else []
    with log.open("ab") as output:
        process = subprocess.Popen(
            ["setpriv", *account, "--pdeathsig", "KILL", "--", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env={"PATH": os.environ["PATH"], **(environment or {})},
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.send_signal(ends_by)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until(condition, process: subprocess.Popen, what: str, log: Path) -> None:
    """Waits for a condition while the process lives."""
    deadline = time.monotonic() + 60
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            raise Failure(f"{what} did not start; its last words: {log.read_text()[-500:] or 'none'}")
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def cpu_seconds(root: int) -> float:
    """The CPU time of a process, of those that it started and of those of them that ended."""
    ticks, waiting = 0, [root]
    while waiting:
        pid = waiting.pop()
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
            for task in Path(f"/proc/{pid}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return ticks / TICK


def resident(pid: int) -> float:
    """The memory that a process holds, in MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE / 1e6


def own(pid: int) -> float:
    """The part of it that is not the program's file in the kernel's cache, in MB."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) * 1024 / 1e6
