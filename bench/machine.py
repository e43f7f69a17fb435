"""The machine, and whether it was quiet enough to measure on."""

import hashlib
import os
import platform
import statistics
import subprocess
import time
from pathlib import Path

from bench.processes import TICK, cpu_seconds

# Beyond these a figure says more of the neighbours than of us: the share of all CPU time that others took, and how
# much the same calculation differed between rounds.
FOREIGN_LIMIT = 0.05
DRIFT_LIMIT = 1.15

# Beyond these, rounds that agree say nothing either: neighbours slow programs of many processes less than ours of one.
# Both are of the median: one round that was disturbed shows in the spread of its figures.
FOREIGN_USELESS = 0.25
DRIFT_USELESS = 1.25


class Noise:
    """Measures how much of the machine other programs use."""

    def __init__(self) -> None:
        self.calibrations: list[float] = []
        self.foreign: list[float] = []
        self._mark = self._reading()

    @staticmethod
    def _reading() -> tuple[float, float, float]:
        fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        idle = fields[3] + fields[4]
        return time.monotonic(), (sum(fields) - idle) / TICK, cpu_seconds(os.getpid())

    def begin(self) -> None:
        """Starts a measurement."""
        self._mark = self._reading()

    def end(self) -> None:
        """Ends a measurement: all CPU time that was not ours, the hypervisor's share included, was others'."""
        began, busy, own = self._mark
        now, busy_now, own_now = self._reading()
        capacity = (now - began) * (os.cpu_count() or 1)
        self.foreign.append(max(0.0, (busy_now - busy) - (own_now - own)) / capacity)

    def calibrate(self) -> None:
        """Times a fixed calculation, the best of three."""

        def once() -> float:
            began = time.perf_counter()
            hashlib.pbkdf2_hmac("sha256", b"bench", b"calibration", 60_000)
            return time.perf_counter() - began

        self.calibrations.append(min(once() for _ in range(3)))

    def summary(self) -> dict[str, float | bool]:
        foreign = statistics.median(self.foreign or [0.0])
        best = min(self.calibrations, default=1.0)
        usual, drift = (of(self.calibrations or [1.0]) / best for of in (statistics.median, max))
        return {
            "foreign": foreign,
            "worst": max(self.foreign, default=0.0),
            "usual": usual,
            "drift": drift,
            "noisy": foreign > FOREIGN_LIMIT or drift > DRIFT_LIMIT,
            "useless": foreign > FOREIGN_USELESS or usual > DRIFT_USELESS,
        }


def description() -> dict[str, str]:
    """The description that a reader needs to compare the figures."""
    cpu = next(
        (line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")),
        platform.machine(),
    )
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 1024**2
    return {"machine": f"{os.cpu_count()} cores of {cpu}, {memory:.0f} GiB, Linux {platform.release()}"}


def first_line(*command: str) -> str:
    """The version that a program reports."""
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    return (said.stdout or said.stderr).strip().split("\n")[0]
