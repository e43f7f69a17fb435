"""A history that cannot be is found, and one that can be passes, whatever was unknown or sent twice."""

import datetime

import pytest

import history
from history_client import USERS, WRITES, HistoryClient, birthday

ONE, TWO, THREE = "1999-01-01", "1999-01-04", "1999-01-07"


def put(begin, end, day, status=204):
    return ["PUT", begin, end, status, "ada", day, None]


def get(begin, end, day, status=200, served=None):
    return ["GET", begin, end, status, "ada", day and day[5:], served]


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
