"""Prints the part of the lock that a group of pyproject.toml needs, with hashes: the packages that it names and all that they need.

The lock says for each package which groups and packages need it.
"""

import pathlib
import re
import sys

LOCK = pathlib.Path(__file__).with_name("lock.txt")


def packages(text):
    """Of each package of a lock: its pin with the hashes, and what needs it."""
    found = {}
    for block in re.split(r"^(?=\w)", re.sub(r"\A(#.*\n)+", "", text), flags=re.M)[1:]:
        pin, _, needed_by = block.partition("    # via")
        found[pin.partition("==")[0]] = (pin, re.findall(r"([\w.:-]+)\)?$", needed_by, re.M))
    return found


def part(known, group):
    """The names of the packages that a group needs."""
    needed, before = {f"pyproject.toml:{group}"}, 0
    while len(needed) > before:
        before = len(needed)
        needed |= {name for name, (_, needed_by) in known.items() if needed.intersection(needed_by)}
    return sorted(needed & known.keys())


if __name__ == "__main__":
    known = packages(LOCK.read_text())
    sys.stdout.writelines(known[name][0] for name in part(known, sys.argv[1]))
