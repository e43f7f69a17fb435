"""Where the project is, and what it holds."""

import functools
import pathlib
import subprocess

TOP = pathlib.Path(__file__).resolve().parents[2]


def pytest_configure(config):
    config.addinivalue_line("markers", "long: not in the short form, which runs where nothing is named")


def run(*command):
    """What a command says, run from the project's top folder."""
    return subprocess.run(command, cwd=TOP, check=True, capture_output=True, text=True, timeout=120).stdout


def tracked(pattern):
    """The files of the project whose paths match."""
    return [TOP / path for path in run("git", "ls-files", "--cached", "--others", "--exclude-standard", pattern).splitlines()]


@functools.cache
def tasks():
    """What `./dev` can do."""
    lines = run("./dev", "help").splitlines()
    return {line.split()[0] for line in lines if line.startswith("  ") and not line.startswith("   ")}
