"""Requests greetings from a balancer at a fixed rate, however it answers, until its input ends. Usage: load.py ADDRESS RATE

Every tenth request saves a user of its own; the others greet one who was saved. Connections are kept alive, and one more is
opened only if none is idle when a request is due. Nothing is retried: whatever is not the expected answer is a failure.
Prints a line of JSON each second: when, how many were sent and answered, what failed, the slowest in milliseconds from when
it was due. The last line says whose writes were acknowledged.
"""

import asyncio
import collections
import json
import random
import string
import sys
import time

PORT = 80
# The limit of a request; the service itself waits 30 s for a primary.
PATIENCE = 45
BODY = b'{"dateOfBirth":"2000-02-03"}'


class Request:
    def __init__(self, due, method, name):
        self.due, self.method, self.name = due, method, name
        body = BODY if method == "PUT" else b""
        self.bytes = f"{method} /hello/{name} HTTP/1.1\r\nHost: dob\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body

    def is_answered_by(self, head, body):
        if self.method == "PUT":
            return head.startswith(b"HTTP/1.1 204 ")
        return head.startswith(b"HTTP/1.1 200 ") and f"Hello, {self.name}!".encode() in body


class Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, load, request):
        self.load, self.request, self.received = load, request, b""

    def connection_made(self, transport):
        self.transport = transport
        transport.write(self.request.bytes)

    def send(self, request):
        self.request = request
        self.transport.write(request.bytes)

    def data_received(self, data):
        self.received += data
        head, end, body = self.received.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        if not end or len(body) < length:
            return
        request, self.request, self.received = self.request, None, b""
        self.load.ended(request, None if request.is_answered_by(head, body) else head.partition(b"\r\n")[0].decode())
        if b"connection: close" in head.lower():
            self.transport.close()
        else:
            self.load.idle.append(self)

    def connection_lost(self, error):
        if self.request:
            self.load.ended(self.request, repr(error or "closed without an answer"))
        elif self in self.load.idle:
            self.load.idle.remove(self)


class Load:
    """All requests and their outcomes."""

    def __init__(self, address, rate):
        self.address, self.rate = address, rate
        self.prefix = "".join(random.choices(string.ascii_lowercase, k=8))
        self.idle, self.waiting, self.opening = collections.deque(), {}, set()
        self.acknowledged, self.known = 0, collections.deque(maxlen=5000)
        self.begin_second()

    def begin_second(self):
        self.sent, self.answered, self.failures, self.slowest = 0, 0, [], 0.0

    def send(self, number, due):
        if number % 10 == 0 or not self.known:
            request = Request(due, "PUT", self.prefix + letters(number))
        else:
            request = Request(due, "GET", random.choice(self.known))
        self.sent += 1
        self.waiting[request] = None
        if self.idle:
            # The connection that has been idle longest, so that none is kept until the balancer closes it.
            connection = self.idle.popleft()
            self.waiting[request] = connection
            connection.send(request)
        else:
            task = asyncio.get_running_loop().create_task(self.open(request))
            self.opening.add(task)
            task.add_done_callback(self.opening.discard)

    async def open(self, request):
        try:
            _, connection = await asyncio.get_running_loop().create_connection(lambda: Connection(self, request), self.address, PORT)
            if request in self.waiting:
                self.waiting[request] = connection
        except OSError as error:
            self.ended(request, repr(error))

    def ended(self, request, failure):
        if request not in self.waiting:
            return
        del self.waiting[request]
        self.answered += 1
        self.slowest = max(self.slowest, time.monotonic() - request.due)
        if failure:
            self.failures.append(f"{request.method} {request.name}: {failure}")
        elif request.method == "PUT":
            self.acknowledged += 1
            self.known.append(request.name)

    def give_up(self, now):
        """Abandons requests that wait too long. The oldest come first."""
        for request, connection in list(self.waiting.items()):
            if now - request.due < PATIENCE:
                return
            self.ended(request, f"no answer within {PATIENCE} s")
            if connection:
                connection.transport.abort()

    def report(self, now):
        second = {"at": now, "sent": self.sent, "answered": self.answered, "failures": self.failures, "slowest": self.slowest * 1000}
        print(json.dumps(second), flush=True)
        self.begin_second()

    async def run(self):
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(sys.stdin, ended.set)
        begin = reported = time.monotonic()
        number = 0
        while not ended.is_set() or self.waiting:
            now = time.monotonic()
            while not ended.is_set() and begin + number / self.rate <= now:
                self.send(number, begin + number / self.rate)
                number += 1
            if now - reported >= 1:
                self.give_up(now)
                self.report(now)
                reported = now
            # The pace of the load, not a wait for anything.
            await asyncio.sleep(0.002)
        self.report(time.monotonic())
        print(json.dumps({"prefix": self.prefix, "acknowledged": self.acknowledged}), flush=True)


def letters(number):
    """A number as letters: a name that the service accepts."""
    return "".join(chr(ord("a") + number // 26**place % 26) for place in range(6))


asyncio.run(Load(sys.argv[1], int(sys.argv[2])).run())
