"""Writes without the service, as a plain client of PostgreSQL does, until its input ends. Usage: libpq_client.py CONNECTION

CONNECTION is a connection string of libpq that names every database host; the password is in PGPASSWORD. One session of psql writes; when
it is lost, or an answer takes too long, the next one connects as libpq finds its way. Each write is a line as client.py prints it: no write
is sent twice, so the status of one without an answer is 0.
"""

import datetime
import json
import random
import select
import subprocess
import sys
import threading
import time

from lab.clients.client import PACE, letters

# The application's limit: libpq itself waits for an answer without limit.
ANSWER_S = 10
PSQL = ("psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--no-password", "--set=ON_ERROR_STOP=1")


class Session:
    """One connection."""

    def __init__(self, connection):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen([*PSQL, f"--dbname={connection}"], **pipes)

    def write(self, name, day):
        """Whether the server acknowledged it."""
        statement = f"insert into users values ('{name}', '{day}') returning 'written';\n"
        try:
            self.process.stdin.write(statement.encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            return False
        # psql fails while it connects, or prints one line at once.
        answered, _, _ = select.select([self.process.stdout], [], [], ANSWER_S)
        return bool(answered) and self.process.stdout.readline() == b"written\n"

    def end(self):
        self.process.kill()
        self.process.communicate()


def run(connection):
    """Writes at the pace of client.py until the input ends."""
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    prefix, session, number = letters(random.randrange(26**4)), Session(connection), 0
    while not ended.is_set():
        name, day = prefix + letters(number), str(datetime.date(1900, 1, 1) + datetime.timedelta(number % 40000))
        begun = time.monotonic()
        written = session.write(name, day)
        print(json.dumps(["PUT", begun, time.monotonic(), 204 if written else 0, name, day]), flush=True)
        if not written:
            session.end()
            session = Session(connection)
        number += 1
        # The pace of the load, not a wait for anything.
        time.sleep(PACE)
    session.end()


if __name__ == "__main__":
    run(sys.argv[1])
