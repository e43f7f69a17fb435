"""Writes and reads through a balancer until its input ends, and prints one line for every request.

A line is JSON: kind, when it began and ended by the machine's monotonic clock, status (0: none), name, day. Every write has a
name of its own, so that each acknowledgement can be held against the database afterwards.
"""

import datetime
import http.client
import itertools
import json
import random
import sys
import threading
import time

WRITERS, READERS, PACE = 4, 2, 0.02
# Longer than the service waits for a primary, shorter than a balancer's idle timeout.
TIMEOUT = 45


class Client:
    """What all threads share."""

    def __init__(self, address):
        self.address = address
        # No other client's names start like this one's.
        self.prefix = letters(random.randrange(26**4))
        self.end = threading.Event()
        self.acknowledged = []
        self.output = threading.Lock()

    def write(self, thread):
        connection = self.connect()
        for number in itertools.count():
            if self.end.is_set():
                return
            name = self.prefix + letters(thread) + letters(number)
            day = str(datetime.date(1900, 1, 1) + datetime.timedelta(number % 40000))
            if self.ask(connection, "PUT", name, day) == 204:
                self.acknowledged.append((name, day))
            # The pace of the load, not a wait for anything.
            time.sleep(PACE)

    def read(self):
        connection = self.connect()
        while not self.end.is_set():
            if self.acknowledged:
                self.ask(connection, "GET", *random.choice(self.acknowledged))
            # The pace of the load, not a wait for anything.
            time.sleep(PACE)

    def connect(self):
        return http.client.HTTPConnection(self.address, timeout=TIMEOUT)

    def ask(self, connection, kind, name, day):
        body = json.dumps({"dateOfBirth": day}) if kind == "PUT" else None
        begun = time.monotonic()
        try:
            connection.request(kind, f"/hello/{name}", body)
            answer = connection.getresponse()
            text = answer.read()
            greets = answer.status != 200 or f"Hello, {name}!" in json.loads(text)["message"]
            status, seen = answer.status if greets else 0, self.seen(answer, text, day)
        except (OSError, ValueError, http.client.HTTPException) as error:
            connection.close()
            status, seen = self.unanswered(connection, error), [day]
        with self.output:
            print(json.dumps([kind, begun, time.monotonic(), status, name, *seen]), flush=True)
        return status

    def unanswered(self, connection, error):
        """The status of a request without a proper answer."""
        return 0

    def seen(self, answer, text, day):
        """The part of an answer that is printed besides its status."""
        return [day]


def letters(number):
    """A number as letters of a fixed length: a name that the service accepts."""
    return "".join(chr(ord("a") + number // 26**place % 26) for place in range(4))


def run(client):
    """Runs all threads until the input ends."""
    threads = [threading.Thread(target=client.write, args=[number]) for number in range(WRITERS)]
    threads += [threading.Thread(target=client.read) for _ in range(READERS)]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    client.end.set()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    run(Client(sys.argv[1]))
