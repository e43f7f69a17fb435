#!/usr/bin/python3
"""Reads which history of WAL a host holds. The one place that parses pg_controldata and pg_waldump.

Each host has a chain of timelines: number, start and end of each. Two chains with the same numbers need not be the same
history: two regions that do not see each other choose the same number. So the WAL itself is compared, by digests.
"""

import hashlib
import os
import re
import subprocess
import tempfile

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: wal_history
short_description: Reads which history of WAL a host holds
options:
  action:
    description: What to read. timelines is the chain of timelines; digests are of the WAL before some positions; count is the number of
      transactions that were committed after a position.
    choices: [timelines, digests, count]
    required: true
    type: str
  data: {description: PostgreSQL's data folder, required: true, type: str}
  binaries: {description: The folder of PostgreSQL's programs, required: true, type: str}
  ends: {description: Positions in the WAL, type: list, elements: int, default: []}
  beyond: {description: A position in the WAL, type: int, default: 0}
  archive: {description: A command that fetches a WAL file that is not on the host any more, type: list, elements: str, default: []}
author: [dob-api]
"""
PAGE, LONG_HEADER = 8192, 40
AT = re.compile(r"error in WAL record at ([0-9A-F]+/[0-9A-F]+): (.*)")
NEXT = re.compile(r"(?:invalid record length|record with incorrect prev-link [0-9A-F/]+) at ([0-9A-F]+/[0-9A-F]+)")
SWITCH = re.compile(r"^rmgr: XLOG +len \(rec/tot\): +\d+/ *(\d+), .* lsn: ([0-9A-F]+/[0-9A-F]+), .* desc: SWITCH", re.M)
MISSING = re.compile(r'could not find file "([0-9A-F]{24})"')
POSITION = """select coalesce(greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()), '0/0')::pg_lsn - '0/0', 0 where pg_is_in_recovery()
union all select pg_current_wal_flush_lsn() - '0/0', ('x' || left(pg_walfile_name(pg_current_wal_flush_lsn()), 8))::bit(32)::int
where not pg_is_in_recovery()"""


class Unreadable(Exception):
    """A sentence that says why a history cannot be read."""


class NoRecord(Unreadable):
    """Where pg_waldump was told to start, or after it, there is no record."""


def number(position):
    """A position in the WAL that PostgreSQL prints as in 0/5000028."""
    high, low = position.split("/")
    return int(high, 16) << 32 | int(low, 16)


def printed(position):
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


def parse_control(said):
    """What pg_controldata prints, as far as it is needed."""
    fields = dict(re.findall(r"^([^:\n]+):[ \t]*(.*)$", said, re.M))
    try:
        return {
            "system": fields["Database system identifier"],
            "segment": int(fields["Bytes per WAL segment"]),
            "redo": number(fields["Latest checkpoint's REDO location"]),
            # Between its promotion and its first checkpoint, only the second knows the new one.
            "timeline": max(int(fields["Latest checkpoint's TimeLineID"]), int(fields["Min recovery ending loc's timeline"])),
        }
    except (KeyError, ValueError) as error:
        raise Unreadable(f"pg_controldata prints nothing usable: {error}") from None


def parse_history(text, last):
    """The chain of timelines that ends with the last one, from the text of its history file."""
    lines = [line.split("\t") for line in text.splitlines() if line.strip() and not line.startswith("#")]
    chain, begin = [], 0
    for timeline, end, *_ in lines:
        chain.append({"timeline": int(timeline), "begin": begin, "end": number(end)})
        begin = number(end)
    return [*chain, {"timeline": last, "begin": begin, "end": None}]


def end_of_dump(code, complaint, after):
    """Where the WAL ends, by how pg_waldump ended: none if it came to the end that it was given. Any other failure is none of these.

    `after` is the first file that was not given to it.
    """
    if code == 0:
        return None
    if found := AT.search(complaint):
        # Of a record that is not whole only the start is known; the WAL ends somewhere after it.
        following = NEXT.search(found[2])
        return number(following[1]) if following else number(found[1]) + 1
    if (found := MISSING.search(complaint)) and found[1][8:] == after[0][8:]:
        return after[1]
    if "could not find a valid record after" in complaint:
        raise NoRecord(f"pg_waldump failed: {complaint.strip()}")
    raise Unreadable(f"pg_waldump failed: {complaint.strip() or f'exit {code}'}")


def commits(said):
    """How many transactions pg_waldump lists as committed."""
    return len(re.findall(r"^rmgr: Transaction .* desc: COMMIT(?:_PREPARED)? ", said, re.M))


def skipped(said):
    """How many bytes pg_waldump left out before the first record, beyond the header of a page."""
    found = re.search(r"^first record is after .* skipping over (\d+) bytes?", said, re.M)
    return max(0, int(found[1]) - LONG_HEADER) if found else 0


class Host:
    """The WAL that a host holds."""

    def __init__(self, data, binaries, archive, scratch):
        self.wal, self.binaries, self.archive, self.scratch = f"{data}/pg_wal", binaries, archive, scratch
        self.control = parse_control(self.run(f"{binaries}/pg_controldata", f"--pgdata={data}"))
        self.segment = self.control["segment"]
        self.live = self.ask()
        self.chain = self.newest()
        self.chain[-1]["end"] = self.end()

    @staticmethod
    def run(*command):
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})
        if done.returncode != 0:
            raise Unreadable(f"{os.path.basename(command[0])} failed: {done.stderr.strip()}")
        return done.stdout

    @staticmethod
    def ask():
        """Where PostgreSQL writes and on which timeline, or how far a standby has come; none if it does not run."""
        command = ["psql", "--no-psqlrc", "--tuples-only", "--no-align", "--field-separator= ", "--command", POSITION, "postgres"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return tuple(map(int, done.stdout.split())) if done.returncode == 0 else None

    def is_primary(self):
        return bool(self.live and self.live[1])

    def newest(self):
        """The chain of the newest timeline of which the host has records. The control file may not know it yet."""
        if self.is_primary():
            return self.chain_of(self.live[1])
        files = sorted((name for name in os.listdir(self.wal) if re.fullmatch(r"[0-9A-F]{8}\.history", name)), reverse=True)
        for last in (int(name[:8], 16) for name in files):
            if last <= self.control["timeline"]:
                break
            chain = self.chain_of(last)
            own = [one for one in chain[:-1] if one["timeline"] == self.control["timeline"] and one["end"] >= self.control["redo"]]
            if own and self.has_records(last, chain[-1]["begin"]):
                return chain
        return self.chain_of(self.control["timeline"])

    def chain_of(self, last):
        if last == 1:
            return parse_history("", 1)
        name = f"{last:08X}.history"
        path = self.fetched(name) if not os.path.exists(f"{self.wal}/{name}") else f"{self.wal}/{name}"
        if not path:
            raise Unreadable(f"{name} is not there: nothing says how timeline {last} began")
        with open(path) as file:
            return parse_history(file.read(), last)

    def has_records(self, timeline, begin):
        command = [f"{self.binaries}/pg_waldump", f"--path={self.wal}", f"--timeline={timeline}", f"--start={printed(begin)}", "--limit=1"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode == 0 and "lsn: " in done.stdout

    def end(self):
        """Where the host's WAL ends."""
        if self.is_primary():
            return self.live[0]
        # A standby may hold more than it has replayed.
        start = max(self.live[0] if self.live else 0, self.control["redo"])
        try:
            return max(self.dump(start, None, "--quiet")[1] or 0, start)
        except NoRecord:
            if self.live and start == self.live[0]:
                return start
            raise

    def name(self, timeline, segment):
        return f"{timeline:08X}{segment * self.segment >> 32:08X}{segment % (2**32 // self.segment):08X}"

    def file(self, segment, until):
        """A file with the WAL of a segment up to a position, of the host's own history: the newest timeline's, as PostgreSQL chooses."""
        names = [
            self.name(one["timeline"], segment)
            for one in reversed(self.chain)
            if one["begin"] // self.segment <= segment and (one is self.chain[-1] or one["end"] >= until)
        ]
        for name in names:
            for path in (f"{self.wal}/{name}", f"{self.wal}/{name}.partial"):
                if os.path.exists(path):
                    return path
        return next(filter(None, map(self.fetched, names)), None)

    def fetched(self, name):
        """A file out of the archive, or none."""
        if not self.archive:
            return None
        path = f"{self.scratch}/{name}"
        if not os.path.exists(path):
            subprocess.run([*self.archive, name, path], capture_output=True, check=False)
        return path if os.path.exists(path) else None

    def dump(self, start, end, *options):
        """What pg_waldump prints of the host's history, and where the WAL ended if that is before the end asked for."""
        last = self.chain[-1]["timeline"]
        with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
            segment = first = start // self.segment
            while (end is None or segment * self.segment < end) and (path := self.file(segment, (segment + 1) * self.segment)):
                os.symlink(path, f"{folder}/{self.name(last, segment)}")
                segment += 1
            # A file that a standby has just begun is empty: pg_waldump would take it for damaged.
            if segment == first or not any(self.header(f"{folder}/{self.name(last, first)}")):
                raise NoRecord(f"the WAL at {printed(start)} is not there")
            after = (self.name(last, segment), segment * self.segment)
            command = [f"{self.binaries}/pg_waldump", f"--path={folder}", f"--timeline={last}", f"--start={printed(start)}", *options]
            command += [f"--end={printed(end)}"] if end is not None else []
            done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})
            stopped = end_of_dump(done.returncode, done.stderr, after)
            if stopped is not None and self.continues(folder, last, stopped):
                raise Unreadable(f"the WAL is damaged at {printed(stopped)}: more of it follows")
        return done.stdout, stopped

    def continues(self, folder, timeline, stopped):
        """Whether WAL follows in the file after the one in which it seems to end. A file that was recycled has an older address."""
        following = stopped // self.segment + 1
        path = f"{folder}/{self.name(timeline, following)}"
        if not os.path.exists(path):
            return False
        return int.from_bytes(self.header(path)[8:16], "little") == following * self.segment

    @staticmethod
    def header(path):
        """The header of a WAL file's first page."""
        with open(path, "rb") as file:
            return file.read(LONG_HEADER)

    def switched(self, segment, end):
        """Where the records of a segment end: a switch to the next one leaves the rest of it unused."""
        begin = segment * self.segment
        if end < begin + self.segment:
            return end
        try:
            said, _ = self.dump(begin, end, "--rmgr=XLOG")
        except NoRecord:
            return end
        found = SWITCH.search(said)
        return number(found[2]) + int(found[1]) if found else end

    def digest(self, end):
        """A digest of the WAL just before a position, or none if it is not there. Too little of it would say nothing.

        What follows a switch is left out: a standby has replayed the switch, and counts as past it, before it receives the rest
        of the segment, and after a new connection it never asks for it.
        """
        if end > self.chain[-1]["end"]:
            return None
        last = (end - 1) // self.segment
        first = last - 1 if end - last * self.segment < PAGE and last > 0 else last
        digest = hashlib.sha256()
        for segment in range(first, last + 1):
            until = min(end, (segment + 1) * self.segment)
            path = self.file(segment, until)
            if path is None:
                return None
            with open(path, "rb") as file:
                digest.update(file.read(self.switched(segment, until) - segment * self.segment))
        return digest.hexdigest()

    def committed(self, beyond):
        """How many transactions were committed after a position."""
        end = self.chain[-1]["end"]
        if end <= beyond:
            return 0
        said, _ = self.dump(beyond, None, "--rmgr=Transaction")
        if skipped(said):
            raise Unreadable(f"no record begins at {printed(beyond)}")
        return commits(said)


def main():
    arguments = {
        "action": {"type": "str", "required": True, "choices": ["timelines", "digests", "count"]},
        "data": {"type": "str", "required": True},
        "binaries": {"type": "str", "required": True},
        "ends": {"type": "list", "elements": "int", "default": []},
        "beyond": {"type": "int", "default": 0},
        "archive": {"type": "list", "elements": "str", "default": []},
    }
    module = AnsibleModule(arguments, supports_check_mode=True)
    given = module.params
    if not os.path.exists(f"{given['data']}/global/pg_control"):
        # What is left of a copy that broke off: the control file comes last.
        partial = os.path.isdir(given["data"]) and bool(os.listdir(given["data"]))
        module.exit_json(changed=False, empty=True, partial=partial, timelines=[], digests={}, transactions=0)
    with tempfile.TemporaryDirectory() as scratch:
        try:
            host = Host(given["data"], given["binaries"], given["archive"], scratch)
            found = {"empty": False, "partial": False, "system": host.control["system"], "timelines": host.chain}
            if given["action"] == "digests":
                found["digests"] = {str(end): host.digest(end) for end in given["ends"]}
            if given["action"] == "count":
                found["transactions"] = host.committed(given["beyond"])
        except (Unreadable, OSError) as error:
            module.exit_json(changed=False, empty=False, partial=True, unreadable=str(error), timelines=[], digests={}, transactions=None)
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
