"""A history that cannot be is found, and one that can be passes, whatever was unknown or sent twice."""

import datetime
import http.server
import json
import threading

import pytest

from lab.clients import history, history_client
from lab.clients.history_client import GAVE_UP, USERS, WRITES, HistoryClient, birthday

ONE, TWO, THREE = "1999-01-01", "1999-01-04", "1999-01-07"


def put(begin, end, day, status=204):
    return ["PUT", begin, end, status, "ada", day, None]


def get(begin, end, day, status=200, served=None):
    return ["GET", begin, end, status, "ada", day and day[5:], served]


# A client gives up its write and writes again.
LEFT = (put(0, 1, ONE), put(2, 3, TWO, GAVE_UP), put(4, 5, THREE))


def wrong(requests, final):
    return history.unlinearizable(history.operations(requests, {"ada": final and final[5:]}))


@pytest.mark.parametrize(
    ("requests", "final"),
    [
        pytest.param([put(0, 1, ONE), get(2, 3, ONE), put(4, 5, TWO), get(6, 7, TWO)], TWO, id="one after the other"),
        pytest.param([put(0, 9, ONE), put(1, 8, TWO), get(2, 3, TWO), get(4, 5, ONE)], ONE, id="in either order while both are under way"),
        pytest.param([put(0, 9, ONE), get(1, 2, ONE), put(3, 4, TWO), get(5, 6, ONE)], ONE, id="twice while it is under way"),
        pytest.param([put(0, 1, ONE), put(2, 3, TWO, 503), get(4, 5, ONE)], ONE, id="unknown, and it never happened"),
        pytest.param([put(0, 1, ONE), put(2, 3, TWO, 0), get(4, 5, ONE), get(6, 7, TWO)], TWO, id="unknown, and it happened late"),
        pytest.param([put(0, 1, ONE, 503), put(2, 3, TWO), get(4, 5, ONE), put(6, 7, THREE)], ONE, id="unknown, and it happened twice"),
        pytest.param([*LEFT, get(6, 7, THREE)], THREE, id="given up, and it never happened"),
        pytest.param([*LEFT[:2], get(4, 5, TWO), put(6, 7, THREE), get(8, 9, THREE)], THREE, id="given up, and it happened"),
        pytest.param([*LEFT, get(6, 7, THREE), get(8, 9, TWO)], TWO, id="given up, and it happened over a newer one"),
        pytest.param([*LEFT, get(6, 7, THREE)], TWO, id="given up, and it happened when nobody read any more"),
        pytest.param([put(0, 1, ONE), put(2, 3, TWO), get(4, 5, ONE, served="replica")], TWO, id="behind on a replica"),
        pytest.param([get(0, 1, None, 404), put(2, 3, ONE, 400)], None, id="never written"),
    ],
)
def test_what_can_be_passes(requests, final):
    assert wrong(requests, final) == []


@pytest.mark.parametrize(
    ("requests", "final"),
    [
        pytest.param([put(0, 1, ONE), put(2, 3, TWO), get(4, 5, ONE)], TWO, id="a stale read"),
        pytest.param([put(0, 1, ONE), put(2, 3, TWO)], ONE, id="an acknowledged write that is lost"),
        pytest.param([put(0, 1, ONE), get(2, 3, None, 404)], ONE, id="a user who is lost for a while"),
        pytest.param([put(0, 9, TWO), put(0, 1, ONE), get(2, 3, TWO), get(4, 5, ONE), get(6, 7, TWO), get(8, 9, ONE)], TWO, id="to and fro"),
        pytest.param([put(0, 1, ONE), put(2, 3, TWO), get(4, 5, TWO), get(6, 7, ONE)], TWO, id="again after it was acknowledged"),
        pytest.param([put(0, 1, ONE), put(2, 3, TWO, 400), get(4, 5, TWO)], TWO, id="a write that was refused"),
        pytest.param([put(0, 1, ONE), get(2, 3, THREE)], ONE, id="a birthday that nobody wrote"),
        pytest.param([*LEFT, get(6, 7, TWO), get(8, 9, THREE)], THREE, id="given up, and the newer one came back after it"),
        pytest.param([*LEFT, get(6, 7, ONE)], THREE, id="given up, and the one before came back"),
        pytest.param([*LEFT], ONE, id="given up, and the acknowledged one after it is lost"),
        pytest.param([put(0, 1, ONE), get(2, 3, TWO), put(4, 5, TWO, GAVE_UP)], TWO, id="given up, and read before it had begun"),
        pytest.param([put(0, 1, ONE), get(2, 3, TWO), put(4, 5, TWO, 503)], TWO, id="a write that had not begun"),
    ],
)
def test_what_cannot_be_is_found(requests, final):
    assert wrong(requests, final) == ["ada"]


def test_each_user_has_each_birthday_once():
    client = HistoryClient("nowhere")
    written = [client.next_write() for _ in range(5 * USERS * WRITES)]
    assert len(set(written)) == len(written)
    assert len({(name, day[5:]) for name, day in written}) == len(written)
    assert max(datetime.date.fromisoformat(day) for _, day in written) <= datetime.date(1999, 12, 31)


def test_a_write_that_was_given_up_counts_as_no_failure():
    ledger = object.__new__(history.HistoryLedger)
    ledger.requests = [*LEFT, put(6, 7, ONE, 503)]
    assert ledger.failed("PUT") == [put(6, 7, ONE, 503)]


class Slow(http.server.BaseHTTPRequestHandler):
    """Answers no write until the client has left, and from then on each."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.client_address, self.path))
        if len(self.server.asked) == 1:
            assert self.rfile.read(1) == b""
            self.close_connection = True
            return
        self.send_response(204)
        self.end_headers()
        self.server.client.end.set()

    def log_message(self, *_):
        pass


def test_a_hasty_writer_leaves_and_writes_the_same_user_on_a_new_connection(monkeypatch, capsys):
    patience = iter([0.05, history_client.TIMEOUT])
    monkeypatch.setattr(history_client, "patience", lambda: next(patience))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        client = server.client = HistoryClient(f"127.0.0.1:{server.server_port}")
        server.asked = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        client.write(1)
        server.shutdown()
    (left, user), (stayed, again) = server.asked
    assert left != stayed and user == again
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [status for _, _, _, status, *_ in told] == [GAVE_UP, 204]
    assert told[0][4] == told[1][4] and told[0][5] != told[1][5]


def test_a_patient_writer_gives_nothing_up():
    client = HistoryClient("nowhere")
    connection = client.connect()
    assert client.unanswered(connection, TimeoutError()) == 0
    history_client.wait(connection, 0.5)
    assert (client.unanswered(connection, TimeoutError()), client.unanswered(connection, ConnectionResetError())) == (GAVE_UP, 0)


@pytest.mark.parametrize(
    ("message", "day"),
    [
        ("Hello, ada! Happy birthday!", "02-28"),
        ("Hello, ada! Your birthday is in 1 day(s)", "03-01"),
        ("Hello, ada! Your birthday is in 364 day(s)", "02-27"),
    ],
)
def test_a_greeting_tells_the_birthday(message, day):
    assert birthday(message, datetime.date(2026, 2, 28)) == day
