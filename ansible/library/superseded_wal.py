#!/usr/bin/python3
"""Moves WAL and backups of a history that was given up aside, in every bucket, so that no recovery and no restore meets them.

The history that counts is a chain of timelines (see the module wal_history). A file is not of it if its timeline is not in the chain,
if the other region began that timeline, or if it goes beyond the fork or the end of its timeline.
"""

import json
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: superseded_wal
short_description: Moves WAL and backups of a history that was given up aside
options:
  stanza: {description: The stanza of the region that gave its history up, required: true, type: str}
  begun: {description: The timelines that the other region began, required: true, type: list, elements: int}
  timelines: {description: The chain of timelines of the history that counts, required: true, type: list, elements: dict}
  fork: {description: Where the histories parted, required: true, type: int}
  repositories: {description: The numbers of the repositories, required: true, type: list, elements: int}
  folder: {description: Where to put the files in a repository, required: true, type: str}
  segment: {description: The size of a WAL file, type: int, default: 16777216}
author: [dob-api]
"""
FILE = re.compile(r"(?:^|/)([0-9A-F]{8})(?:([0-9A-F]{8})([0-9A-F]{8})(?:[-.].*)?|\.history[^/]*)$")


class Failed(Exception):
    """A sentence that says what failed."""


def number(position):
    high, low = position.split("/")
    return int(high, 16) << 32 | int(low, 16)


def is_superseded(name, timelines, fork, begun, segment):
    """Whether a file of the archive belongs to a history that was given up: a WAL file, its .partial or .backup, or a .history."""
    found = FILE.search(name)
    if not found:
        return False
    timeline = int(found[1], 16)
    known = {one["timeline"]: one for one in timelines}
    if timeline not in known or timeline in begun:
        return True
    own = known[timeline]
    if found[2] is None:
        return own["begin"] >= fork
    end = (int(found[2], 16) << 32) + (int(found[3], 16) + 1) * segment
    return end > min(fork, own["end"])


def is_superseded_backup(backup, timelines, fork, begun):
    """Whether a backup ended in a history that was given up."""
    if not backup["archive"]["stop"]:
        return True
    timeline = int(backup["archive"]["stop"][:8], 16)
    known = {one["timeline"]: one for one in timelines}
    return timeline not in known or timeline in begun or number(backup["lsn"]["stop"]) > min(fork, known[timeline]["end"])


class Repository:
    def __init__(self, key, given):
        self.key, self.given = key, given

    def run(self, command, *options, content=None):
        words = ["pgbackrest", command, f"--stanza={self.given['stanza']}", f"--repo={self.key}", "--log-level-stderr=error", *options]
        done = subprocess.run(words, input=content, capture_output=True, check=False)
        if done.returncode != 0:
            raise Failed(f"pgbackrest {command} in repository {self.key}: {done.stderr.decode().strip() or f'exit {done.returncode}'}")
        return done.stdout

    def files(self, path):
        """The files below a path with their sizes."""
        listing = json.loads(self.run("repo-ls", "--recurse", "--output=json", path) or b"{}")
        return {f"{path}/{name}": entry["size"] for name, entry in listing.items() if entry["type"] == "file"}

    def move(self, path, size):
        to = f"{self.given['folder']}/{path}"
        content = self.run("repo-get", "--raw", path)
        if len(content) != size:
            raise Failed(f"{path} in repository {self.key} has {len(content)} bytes, not {size}")
        self.run("repo-put", "--raw", to, content=content)
        return to

    def superseded(self):
        """The files that must go, and the labels of the backups among them."""
        given = self.given
        stanza = given["stanza"]
        facts = (given["timelines"], given["fork"], given["begun"], given["segment"])
        files = {path: size for path, size in self.files(f"archive/{stanza}").items() if is_superseded(path, *facts)}
        answer = json.loads(self.run("info", "--output=json"))
        labels = [backup["label"] for backup in answer[0]["backup"] if is_superseded_backup(backup, *facts[:3])]
        for label in labels:
            files |= self.files(f"backup/{stanza}/{label}")
        return files, labels

    def clear(self):
        """Moves what must go, and returns it. A file is removed only when its copy is there with all its bytes."""
        files, labels = self.superseded()
        if not files:
            return {"repository": self.key, "files": [], "backups": []}
        with ThreadPoolExecutor(4) as pool:
            copies = dict(zip(files, pool.map(self.move, files, files.values()), strict=True))
        there = self.files(self.given["folder"])
        if lacking := [path for path, to in copies.items() if there.get(to) != files[path]]:
            raise Failed(f"the copy of {lacking[0]} in repository {self.key} is not whole: nothing was removed")
        for path in files:
            self.run("repo-rm", path)
        for label in labels:
            self.run("repo-rm", "--recurse", f"backup/{self.given['stanza']}/{label}")
        if labels:
            # pgBackRest strikes backups without files off its list.
            self.run("expire")
        left, _ = self.superseded()
        if left:
            raise Failed(f"{len(left)} files of the history that was given up are still in repository {self.key}, such as {next(iter(left))}")
        return {"repository": self.key, "files": sorted(files), "backups": labels}


def main():
    arguments = {name: {"type": "str", "required": True} for name in ("stanza", "folder")}
    arguments |= {"timelines": {"type": "list", "elements": "dict", "required": True}, "fork": {"type": "int", "required": True}}
    arguments |= {"begun": {"type": "list", "elements": "int", "required": True}}
    arguments |= {"repositories": {"type": "list", "elements": "int", "required": True}, "segment": {"type": "int", "default": 16777216}}
    module = AnsibleModule(arguments, supports_check_mode=True)
    given = module.params
    try:
        repositories = [Repository(key, given) for key in given["repositories"]]
        if module.check_mode:
            found = [{"repository": one.key, "files": sorted(one.superseded()[0])} for one in repositories]
        else:
            found = [one.clear() for one in repositories]
    except (Failed, KeyError, ValueError) as error:
        module.fail_json(msg=f"what was given up could not be moved aside: {error}")
    module.exit_json(changed=any(one["files"] for one in found), moved=found)


if __name__ == "__main__":
    main()
