"""Clients of the service that record every request. Usage: load.py PORT

Prints a line for every hundred expected answers, and when its input ends, all it recorded as JSON.

Twelve clients keep their connection alive and write a new user every fifth request; four open a new connection for each request.
Nothing is retried: what is not the expected answer within ten seconds is a failure.
"""

import asyncio
import itertools
import json
import string
import sys
import time

PORT = int(sys.argv[1])
BIRTH = b'{"dateOfBirth":"2000-02-03"}'
ended = asyncio.Event()
requests, answered, slowest, failures, acknowledged = 0, 0, 0.0, [], []


class Client:
    """One connection at a time, opened when needed."""

    def __init__(self):
        self.streams = None

    async def ask(self, method, path, body=b""):
        if self.streams is None:
            self.streams = await asyncio.open_connection("127.0.0.1", PORT)
        reader, writer = self.streams
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: dob\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = head.partition("content-length: ")[2].partition("\r\n")[0]
        await reader.readexactly(int(length or 0))
        if "connection: close" in head:
            self.close()
        return int(head.split()[1])

    def close(self):
        if self.streams is not None:
            self.streams[1].close()
            self.streams = None


async def record(client, expected, *request):
    """Sends one request; true if it was answered as expected."""
    global requests, slowest, answered
    requests += 1
    start = time.monotonic()
    try:
        status = await asyncio.wait_for(client.ask(*request), 10)
        failure = None if status == expected else f"status {status}"
    except (TimeoutError, OSError, EOFError, ValueError) as error:
        client.close()
        failure = repr(error)
    slowest = max(slowest, time.monotonic() - start)
    if failure is None:
        answered += 1
        if answered % 100 == 0:
            print(answered, flush=True)
    else:
        failures.append(f"{time.time():.3f} {' '.join(map(str, request[:2]))}: {failure}")
    return failure is None


async def keep_alive(letter):
    client, path = Client(), "/hello/load"
    for number in itertools.count():
        if number % 5 == 0:
            digits = str(number).translate(str.maketrans(string.digits, string.ascii_lowercase[:10]))
            name = f"/hello/{letter}x{digits}"
            if await record(client, 204, "PUT", name, BIRTH):
                acknowledged.append(name)
                path = name
        else:
            await record(client, 200, "GET", path)
        if ended.is_set():
            client.close()
            return
        # The pace of the load, not a wait for anything.
        await asyncio.sleep(0.02)


async def connect_anew():
    client = Client()
    while not ended.is_set():
        await record(client, 200, "GET", "/hello/load")
        client.close()
        # The pace of the load again.
        await asyncio.sleep(0.04)


async def main():
    client = Client()
    assert await record(client, 204, "PUT", "/hello/load", BIRTH), failures
    client.close()
    clients = [keep_alive(letter) for letter in "abcdefghijkl"] + [connect_anew() for _ in range(4)]
    asyncio.get_running_loop().add_reader(sys.stdin, ended.set)
    await asyncio.gather(*clients)
    print(json.dumps({"requests": requests, "slowest": slowest, "failures": failures, "acknowledged": acknowledged}))


asyncio.run(main())
