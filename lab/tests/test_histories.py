"""How histories of WAL are told apart: what PostgreSQL's programs print, chains of timelines, and two real promotions at one position."""

import functools
import importlib.util
import pathlib
import shutil
import socket
import subprocess

import pytest

from lab.hosts import nspawn

ANSIBLE = pathlib.Path(__file__).resolve().parents[2] / "ansible"


def load(path):
    spec = importlib.util.spec_from_file_location(pathlib.Path(path).stem, ANSIBLE / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


wal_history = load("library/wal_history.py")
superseded_wal = load("library/superseded_wal.py")
histories = load("filter_plugins/histories.py")
AFTER = ("000000010000000000000011", 0x11000000)
ENDS = {
    "error in WAL record at 0/10000070: invalid record length at 0/100000B8: expected at least 24, got 0": 0x100000B8,
    "error in WAL record at 0/10000070: invalid record length at 0/100000B8: wanted 24, got 0": 0x100000B8,
    "error in WAL record at 0/10000070: record with incorrect prev-link 0/9000028 at 0/100000B8": 0x100000B8,
    "error in WAL record at 0/1001FF80: invalid magic number 0000 in WAL segment 000000010000000000000010, LSN 0/10020000, offset 131072":
        0x1001FF81,
    "error in WAL record at 0/1001FF80: unexpected pageaddr 0/A020000 in WAL segment 000000010000000000000010, LSN 0/10020000, offset 131072":
        0x1001FF81,
    "error in WAL record at 0/1001FF80: incorrect resource manager data checksum in record at 0/10020000": 0x1001FF81,
    'could not find file "000000010000000000000011": No such file or directory': 0x11000000,
}  # fmt: skip
FAILURES = [
    # The fork's WAL was recycled.
    'could not find file "000000010000000000000003": No such file or directory',
    "could not find a valid record after 0/12020000",
    'could not open directory "/nowhere": No such file or directory',
    'invalid WAL location: "x"',
    "",
]
DUMP = """\
first record is after 0/10000000, at 0/10000028, skipping over 40 bytes
rmgr: LogicalMessage len (rec/tot):     67/    67, tx:          0, lsn: 0/10000028, prev 0/0F000430, desc: MESSAGE non-transactional
rmgr: Transaction len (rec/tot):     34/    34, tx:        740, lsn: 0/10000070, prev 0/10000028, desc: COMMIT 2026-11-29 10:00:00.123456 UTC
rmgr: Transaction len (rec/tot):     34/    34, tx:        741, lsn: 0/10000098, prev 0/10000070, desc: ABORT 2026-11-29 10:00:00.223456 UTC
rmgr: Transaction len (rec/tot):    421/   421, tx:        742, lsn: 0/100000C0, prev 0/10000098, desc: COMMIT 2026-11-29 10:00:01 UTC; inval msgs: x
"""
CONTROL = """\
pg_control version number:            1700
Database system identifier:           7713786928549548559
Latest checkpoint location:           0/A000080
Latest checkpoint's REDO location:    0/A000028
Latest checkpoint's TimeLineID:       2
Latest checkpoint's oldestCommitTsXid:0
Minimum recovery ending location:     0/0
Min recovery ending loc's timeline:   3
Bytes per WAL segment:                16777216
"""


@pytest.mark.parametrize(("complaint", "end"), ENDS.items(), ids=range(len(ENDS)))
def test_only_the_end_of_the_wal_is_taken_for_its_end(complaint, end):
    assert wal_history.end_of_dump(1, f"pg_waldump: error: {complaint}\n", AFTER) == end


@pytest.mark.parametrize("complaint", FAILURES)
def test_any_other_failure_of_pg_waldump_counts_nothing(complaint):
    with pytest.raises(wal_history.Unreadable):
        wal_history.end_of_dump(1, f"pg_waldump: error: {complaint}\n", AFTER)


def test_commits_are_counted_and_nothing_else():
    assert wal_history.commits(DUMP) == 2
    assert wal_history.skipped(DUMP) == 0
    assert wal_history.skipped("first record is after 0/10000100, at 0/10000828, skipping over 1832 bytes\n") > 0
    assert wal_history.end_of_dump(0, "", AFTER) is None


def test_a_promotion_that_only_the_end_of_recovery_knows_counts():
    found = wal_history.parse_control(CONTROL)
    assert found == {"system": "7713786928549548559", "segment": 16777216, "redo": 0xA000028, "timeline": 3}
    with pytest.raises(wal_history.Unreadable):
        wal_history.parse_control("pg_controldata: error: could not read file\n")


def test_a_history_file_is_read_as_a_chain():
    text = "1\t0/5000000\tno recovery target specified\n\n# remark\n2\t1/28\tbefore 2026-11-29\n"
    first = {"timeline": 1, "begin": 0, "end": 0x5000000}
    assert wal_history.parse_history(text, 3) == [
        first,
        {"timeline": 2, "begin": 0x5000000, "end": 2**32 + 0x28},
        {"timeline": 3, "begin": 2**32 + 0x28, "end": None},
    ]


def chain(*timelines):
    """A chain of timelines from numbers and ends, with a digest of each end that names who wrote it."""
    begin, found, digests = 0, [], {}
    for timeline, end, writer in timelines:
        found.append({"timeline": timeline, "begin": begin, "end": end})
        digests[str(end)] = writer
        begin = end
    return {"timelines": found, "digests": digests}


def at(host, **digests):
    return host | {"digests": host["digests"] | {name.lstrip("_"): digest for name, digest in digests.items()}}


COUNTS = at(chain((1, 100, "x"), (2, 900, "b")), _500="b", _50="x", _80="x")
BEYOND = {
    "an old primary that sent everything": (chain((1, 100, "x")), (100, False, False)),
    "a replica that was behind": (chain((1, 50, "x")), (50, False, False)),
    "an old primary that did not send everything": (at(chain((1, 130, "x")), _100="x"), (100, True, False)),
    "the same number from another position": (at(chain((1, 120, "x"), (2, 500, "a")), _100="x"), (100, True, True)),
    "the same number from the same position": (chain((1, 100, "x"), (2, 500, "a")), (100, True, True)),
    "the same number, and one more": (chain((1, 100, "x"), (2, 300, "a"), (3, 500, "a")), (100, True, True)),
    "a higher number from another position": (chain((1, 80, "x"), (3, 500, "a")), (80, True, False)),
    "the history itself, and behind": (chain((1, 100, "x"), (2, 500, "b")), (500, False, False)),
}


@pytest.mark.parametrize(("host", "expected"), BEYOND.values(), ids=BEYOND.keys())
def test_a_host_is_judged_by_its_whole_history(host, expected):
    counts = at(COUNTS, _300="b")
    found = histories.forks({"one": host}, counts)["one"]
    assert (found["fork"], found["beyond"], found["copy"]) == expected


def test_an_unknown_state_may_be_resolved_by_a_proven_neighbour():
    behind, unknown = chain((1, 70, "x")), {"fork": None, "beyond": True, "copy": True}
    assert histories.forks({"one": behind}, COUNTS)["one"] == unknown
    neighbour = at(chain((1, 100, "x")), _70="x")
    assert histories.forks({"one": behind, "two": neighbour}, COUNTS)["one"]["fork"] == 70
    other = at(chain((1, 100, "y")), _70="x")
    assert histories.forks({"one": behind, "two": other}, COUNTS)["one"] == unknown
    assert histories.forks({"one": {"empty": True, "timelines": []}}, COUNTS)["one"] == {"fork": 0, "beyond": False, "copy": True}


SEGMENT = 16777216
TIMELINES = [
    {"timeline": 1, "begin": 0, "end": 5 * SEGMENT + 100},
    {"timeline": 2, "begin": 5 * SEGMENT + 100, "end": 9 * SEGMENT},
    {"timeline": 3, "begin": 9 * SEGMENT, "end": 20 * SEGMENT},
]
KEPT = ["000000010000000000000004-0123.zst", "000000020000000000000008-0123.zst", "00000002.history", "000000010000000000000004.00000028.backup"]
MOVED = [
    # Beyond the end of its timeline, of a timeline that the other region began, of one that nobody has, and their relations.
    "000000010000000000000005-0123.zst", "000000020000000000000009-0123.zst", "000000030000000000000009-0123.zst",
    "000000040000000000000009-0123.zst", "00000003.history", "00000004.history", "000000030000000000000009.00000028.backup",
    "000000020000000000000009.partial-0123.zst",
]  # fmt: skip


def test_what_was_saved_of_a_history_that_was_given_up_is_told_from_what_counts():
    judge = functools.partial(superseded_wal.is_superseded, timelines=TIMELINES, fork=2**63 - 1, begun=[3], segment=SEGMENT)
    assert [name for name in KEPT + MOVED if judge(f"17-1/0000000100000000/{name}")] == MOVED
    assert not judge("archive.info")
    # Both regions began timeline 2 when they parted in timeline 1.
    parted = functools.partial(superseded_wal.is_superseded, timelines=TIMELINES, fork=5 * SEGMENT, begun=[2, 3], segment=SEGMENT)
    assert parted("000000020000000000000008-0123.zst") and parted("00000002.history") and not parted(KEPT[0])


def test_a_backup_of_a_history_that_was_given_up_is_told_from_one_that_counts():
    judge = functools.partial(superseded_wal.is_superseded_backup, timelines=TIMELINES, fork=2**63 - 1, begun=[3])
    backup = {"archive": {"stop": "000000020000000000000008"}, "lsn": {"stop": "0/8000100"}}
    assert not judge(backup)
    assert judge(backup | {"archive": {"stop": "000000030000000000000008"}})
    assert judge(backup | {"lsn": {"stop": "0/9000028"}})


class Server:
    """A PostgreSQL of this machine."""

    def __init__(self, folder, name, binaries):
        self.folder, self.data, self.binaries = folder, folder / name, binaries
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def run(self, program, *arguments):
        words = ["runuser", "-u", "postgres", "--", f"{self.binaries}/{program}", *map(str, arguments)]
        done = subprocess.run(words, capture_output=True, text=True, check=False, cwd="/")
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self):
        options = f"-p {self.port} -k {self.folder} -c listen_addresses= -c autovacuum=off -c wal_level=replica -c wal_keep_size=256MB"
        self.run("pg_ctl", "--pgdata", self.data, "--wait", "--log", f"{self.data}.log", "--options", options, "start")

    def stop(self):
        self.run("pg_ctl", "--pgdata", self.data, "--wait", "--mode=immediate", "stop")

    def sql(self, statement):
        where = [f"--host={self.folder}", f"--port={self.port}", "--username=postgres", "postgres"]
        return self.run("psql", "--no-psqlrc", "--tuples-only", "--no-align", "--command", statement, *where).strip()

    def copy(self, name):
        other = Server(self.folder, name, self.binaries)
        self.run("pg_basebackup", f"--host={self.folder}", f"--port={self.port}", f"--pgdata={other.data}", "--write-recovery-conf")
        return other

    def history(self):
        """As the module reads it of a host on which PostgreSQL does not run."""
        return wal_history.Host(str(self.data), str(self.binaries), [], str(self.folder))


@pytest.fixture
def promoted_at_one_position(monkeypatch):
    """Two copies of one database that were both promoted where it ended, and wrote 3 and 5 rows since."""
    folder = pathlib.Path(subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip())
    shutil.chown(folder, "postgres")
    binaries = next(iter(sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))))
    monkeypatch.setattr(wal_history.Host, "ask", lambda _: None)
    old, running = Server(folder, "old", binaries), []
    try:
        old.run("initdb", f"--pgdata={old.data}", "--auth=trust", "--username=postgres", "--no-sync")
        old.start()
        running.append(old)
        old.sql("create table rows (number int)")
        copies = [old.copy("one"), old.copy("two")]
        for server in copies:
            server.start()
            running.append(server)
        last = old.sql("insert into rows values (0) returning pg_current_wal_insert_lsn()").split()[0]
        old.sql("select pg_switch_wal()")
        ends = "select coalesce(pg_last_wal_replay_lsn(), '0/0')"
        for server in copies:
            nspawn.wait_until(lambda server=server: server.sql(f"select '{last}'::pg_lsn < ({ends})") == "t", "a copy follows")
        old.stop()
        running.remove(old)
        nspawn.wait_until(lambda: len({server.sql(ends) for server in copies}) == 1, "both copies are at one position")
        for server, count in zip(copies, (3, 5), strict=True):
            server.sql("select pg_promote()")
            for number in range(count):
                server.sql(f"insert into rows values ({number})")
        while running:
            running.pop().stop()
        yield copies
    finally:
        for server in running:
            server.stop()
        shutil.rmtree(folder)


def test_two_promotions_at_the_same_position_are_two_histories(promoted_at_one_position):
    one, two = [server.history() for server in promoted_at_one_position]
    assert [{name: timeline[name] for name in ("timeline", "begin")} for timeline in one.chain] == [
        {name: timeline[name] for name in ("timeline", "begin")} for timeline in two.chain
    ], "their numbers and positions tell nothing"
    pair = [{"timelines": host.chain} for host in (one, two)]
    ends = histories.ends({"one": pair[0]}, pair[1])
    known = [found | {"digests": {str(end): host.digest(end) for end in ends}} for found, host in zip(pair, (one, two), strict=True)]
    found = histories.forks({"one": known[0]}, known[1])["one"]
    assert found == {"fork": two.chain[-1]["begin"], "beyond": True, "copy": True}
    assert (one.committed(found["fork"]), two.committed(found["fork"])) == (3, 5)
    with pytest.raises(wal_history.Unreadable):
        pathlib.Path(one.wal, one.name(2, found["fork"] // one.segment)).unlink()
        one.committed(found["fork"])


def test_what_follows_a_switch_does_not_part_two_histories(promoted_at_one_position):
    """A standby that replayed a switch counts as past it, and may never receive the rest of the segment."""
    one, two = [server.history() for server in promoted_at_one_position]
    fork = two.chain[-1]["begin"]
    path, after = [pathlib.Path(one.file(fork // one.segment - before, fork + 1 - before)) for before in (1, 0)]
    whole, used = path.read_bytes(), one.switched(fork // one.segment - 1, fork) % one.segment
    assert wal_history.LONG_HEADER < used < one.segment and not any(whole[-1000:]), "both were promoted after a switch"
    # Now they share the begin of the timeline, too.
    after.write_bytes(pathlib.Path(two.file(fork // two.segment, fork + 1)).read_bytes())
    ends = (fork, fork + 100)
    assert [one.digest(end) for end in ends] == [two.digest(end) for end in ends]
    for rest in (b"\0", b"\xd1"):
        path.write_bytes(whole[:used].ljust(one.segment, rest))
        assert [one.digest(end) for end in ends] == [two.digest(end) for end in ends], rest
    path.write_bytes(whole[: used - 100].ljust(one.segment, b"\0"))
    assert all(one.digest(end) != two.digest(end) for end in ends), "what stands before the switch counts"


def test_a_segment_that_a_standby_has_just_begun_has_no_record(promoted_at_one_position):
    host = promoted_at_one_position[0].history()
    begun = host.chain[-1]["end"] // host.segment + 1
    pathlib.Path(host.wal, host.name(host.chain[-1]["timeline"], begun)).write_bytes(bytes(host.segment))
    with pytest.raises(wal_history.NoRecord):
        host.dump(begun * host.segment, None, "--quiet")
    host.live = (begun * host.segment, 0)
    assert host.end() == begun * host.segment


def test_the_timelines_of_a_region_are_those_that_its_hosts_began():
    promotions = [[1, 100, "no recovery target specified"], [2, 200, "reason", "time", "b-db1"], [3, 300, "reason", "time", "a-db1"]]
    assert histories.begun(TIMELINES, promotions, ["b-db1", "b-db2"]) == [3]
    assert histories.begun([*TIMELINES, {"timeline": 4, "begin": 300, "end": 400}], promotions, ["b-db1", "a-db1"]) == [3, 4]
