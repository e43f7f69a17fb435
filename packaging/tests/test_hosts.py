"""The machinery of the tests: what a killed run leaves behind is found and removed."""

import pathlib
import signal
import subprocess
import sys

from conftest import TOP
from lab.hosts import nspawn

BOOT = """
import sys
from lab.hosts import nspawn
run = nspawn.Run()
nspawn.Host(nspawn.Network(run, "10.78.0"), "left", "10.78.0.10", sys.argv[1]).boot()
print(run.name, flush=True)
sys.stdin.read()
"""


def traces(name):
    """What shows that a run is or was there."""
    found = [str(path) for root in nspawn.cgroup_roots() for path in root.glob(f"dob-api/{name}")]
    found += [str(path) for path in pathlib.Path("/run/netns").glob(f"dob-{name}-*")]
    found += [str(path) for path in nspawn.RUNS.glob(name)]
    found += nspawn.run("pgrep", "--full", f"{nspawn.RUNS}/{name}", check=False).stdout.split()
    found += [line for line in pathlib.Path("/proc/mounts").read_text().splitlines() if name in line]
    return found


def test_what_a_killed_run_left_is_swept_away_and_the_living_are_spared(rootfs, owner):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    other = subprocess.Popen([sys.executable, "-c", BOOT, rootfs("trixie")], cwd=TOP, **pipes)
    name = other.stdout.readline().strip()
    nspawn.sweep()
    alive = traces(name)
    assert len(alive) > 3
    other.send_signal(signal.SIGKILL)
    other.wait()
    nspawn.sweep()
    assert traces(name) == []
    assert owner.folder.exists()
