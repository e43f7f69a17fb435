"""Checks whether one register per user can explain all that clients saw of few users."""

import collections
import subprocess

from lab.clients.history_client import GAVE_UP
from lab.clients.ledger import Ledger
from lab.hosts import nspawn
from tools import TOP

UNWRITTEN = 0


class HistoryLedger(Ledger):
    """Requests on few users. What is lost, stale or from nowhere is found by a linearizability checker."""

    client = "lab.clients.history_client"
    # The results of the check.
    checked = None

    def failed(self, kind):
        """Requests without a proper answer, except those that the client abandoned, and 404s, which the check judges."""
        return [request for request in super().failed(kind) if request[3] != GAVE_UP and (kind, request[3]) != ("GET", 404)]

    def check(self, region, since):
        """Sentences about users whose history is wrong, without users who were requested before `since`."""
        requests = list(self.requests)
        users = {request[4] for request in requests}
        early = {request[4] for request in requests if request[1] < since}
        histories = {user: history for user, history in operations(requests, self.final(region, users)).items() if user not in early}
        wrong = unlinearizable(histories)
        self.checked = {
            "users": len(histories),
            "not checked": len(early),
            "operations": sum(map(len, histories.values())),
            "unknown": sum(is_unknown(request) and request[3] != GAVE_UP for request in requests),
            "given up": sum(request[3] == GAVE_UP for request in requests),
            "marked reads": sum(shows_nothing(request) for request in requests),
            "wrong": {user: histories[user] for user in wrong},
        }
        return [f"the history of user {user} is not linearizable" for user in wrong]

    def final(self, region, users):
        """The month and day of each user in the database at the end."""
        names = ",".join(f"'{user}'" for user in users)
        statement = f"select username || ' ' || to_char(date_of_birth, 'MM-DD') from users where username in ({names})"
        rows = dict(row.split() for row in self.cluster.sql(region, statement, "dob"))
        return {user: rows.get(user) for user in users}


def is_unknown(request):
    """Whether a write's outcome is unknown: true unless the service rejected the request itself."""
    kind, _, _, status, *_ = request
    return kind == "PUT" and status != 204 and not 400 <= status < 500


def shows_nothing(request):
    """Whether a read is left out: it came from a replica, which may be behind and says so, or it spans midnight."""
    return request[0] == "GET" and any(request[6:])


def number(day):
    """A birthday, given as month and day or as a date, as a number; 0 if there is none."""
    return int(day[-5:].replace("-", "")) if day else UNWRITTEN


def operations(requests, final):
    """The checker's input for each user: lists of start, end, kind and value.

    A write is sent on to the database once or twice: its double may happen within the same time, and happens without a trace beside
    it. A write of unknown outcome may happen at any time after it began, or never, which is as much as after the last read. So what
    nobody read needs no double, and if unknown not even itself; and what somebody read happened before the last read of it ended.
    """
    end = max((request[2] for request in requests), default=0) + 1
    reads, writes = collections.defaultdict(list), collections.defaultdict(list)
    for user, day in final.items():
        reads[user].append((end, end, number(day)))
    for request in requests:
        kind, begin, ended, status, user, day = request[:6]
        if kind == "PUT" and (status == 204 or is_unknown(request)):
            writes[user].append((begin, ended if status == 204 else None, number(day)))
        elif kind == "GET" and status in (200, 404) and not shows_nothing(request):
            reads[user].append((begin, ended, number(day) if status == 200 else UNWRITTEN))
    histories = {}
    for user in final:
        last_read = {}
        for _, ended, value in reads[user]:
            last_read[value] = max(ended, last_read.get(value, 0))
        histories[user] = [(begin, ended, "read", value) for begin, ended, value in reads[user]]
        for begin, ended, value in writes[user]:
            if ended is None and value in last_read:
                ended = max(begin, last_read[value])
            if ended is not None:
                histories[user] += [(begin, ended, "write", value)] * (2 if value in last_read else 1)
    return histories


def unlinearizable(histories):
    """The users whose history the checker refuses."""
    lines = [
        f"{user} {nanoseconds(begin)} {nanoseconds(end)} {kind} {value}\n"
        for user, history in histories.items()
        for begin, end, kind, value in history
    ]
    try:
        return nspawn.run(checker(), input="".join(lines), timeout=600).stdout.split()
    except subprocess.TimeoutExpired:
        raise nspawn.Failed("the checker came to no end within 600 s") from None


def nanoseconds(seconds):
    return int(seconds * 1e9)


def checker():
    """The path of the program, which is built the first time."""
    return nspawn.run(TOP / "lab/clients/checker", timeout=1800).stdout.strip()
