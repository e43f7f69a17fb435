"""Like client.py, but on few users at a time, so that writes and reads of one user overlap.

Each write of a user has a birthday that no other write of this user has: who reads it knows which write it was. After so many
writes another user takes the place. Some writers give up half of their writes: they close the connection, mostly before the answer
came, and write the same user again on a new one. The status of such a write is GAVE_UP. A line has a seventh part, where a read does not show what
a user's birthday was: "replica", as the answer said of itself, or "midnight".
"""

import datetime
import json
import random
import re
import sys
import threading
import time

from lab.clients.client import PACE, TIMEOUT, Client, letters, run

USERS, WRITES = 3, 100
# Every second writer abandons its writes, after a fraction of an answer's usual time, up to longer than a statement may wait.
HASTY, PATIENCE_S = 2, (0.001, 2)
GAVE_UP = -1
# A year with 365 birthdays, without 29 February.
YEAR = datetime.date(1999, 1, 1)


class HistoryClient(Client):
    """Writers choose among a few users, readers among these and the last before them."""

    def __init__(self, address):
        super().__init__(address)
        self.choice = threading.Lock()
        self.made, self.written = 0, {}
        self.readable = []
        # On which day each thread asked.
        self.asked = threading.local()

    def next_write(self, again=None):
        """A user, the one to write again if there is one, and a birthday that this user has not had."""
        with self.choice:
            while len(self.written) < USERS:
                self.written[self.prefix + letters(self.made)] = 0
                self.made += 1
            name = again if again in self.written else random.choice(list(self.written))
            number = self.written[name]
            self.written[name] += 1
            if number + 1 == WRITES:
                del self.written[name]
        # Steps of three days, which end before the year does.
        return name, str(YEAR + datetime.timedelta(3 * number))

    def write(self, thread):
        connection, again = self.connect(), None
        while not self.end.is_set():
            name, day = self.next_write(again)
            wait(connection, patience() if thread % HASTY else TIMEOUT)
            status = self.ask(connection, "PUT", name, day)
            if status == 204 and name not in self.readable:
                self.readable.append(name)
            again = name if status == GAVE_UP else None
            # The pace of the load, not a wait for anything.
            time.sleep(PACE)

    def read(self):
        connection = self.connect()
        while not self.end.is_set():
            if self.readable:
                self.asked.day = today()
                self.ask(connection, "GET", random.choice(self.readable[-2 * USERS :]), None)
            # The pace of the load, not a wait for anything.
            time.sleep(PACE)

    def unanswered(self, connection, error):
        return GAVE_UP if isinstance(error, TimeoutError) and connection.timeout < TIMEOUT else 0

    def seen(self, answer, text, day):
        if answer.status != 200:
            return [day]
        unclear = answer.headers.get("X-Served-By") or ("midnight" if self.asked.day != today() else None)
        return [birthday(json.loads(text)["message"], self.asked.day), unclear]


def patience():
    """How long a hasty writer waits: half of the time for the answer, else a time whose every order of magnitude is as likely."""
    least, most = PATIENCE_S
    return random.choice([TIMEOUT, least * (most / least) ** random.random()])


def wait(connection, seconds):
    """Sets the timeout of the next request on a connection, or on the one that replaces it."""
    connection.timeout = seconds
    if connection.sock:
        connection.sock.settimeout(seconds)


def today():
    """The service's day."""
    return datetime.datetime.now(datetime.UTC).date()


def birthday(message, day):
    """The birthday, as month and day, that a greeting on this day implies."""
    found = re.search(r"birthday is in (\d+) day", message)
    return f"{day + datetime.timedelta(int(found[1]) if found else 0):%m-%d}"


if __name__ == "__main__":
    run(HistoryClient(sys.argv[1]))
