"""What a table holds at a point that a restore can reach exactly."""

import contextlib
import datetime

import psycopg2

import backups

LOCK_TIMEOUT_MS, TRIES = 2000, 5
# The sum does not depend on the order of the rows.
CONTENT = "select count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0) from {} t"


def content(cursor):
    """How many rows the table has, and their checksum."""
    cursor.execute(CONTENT.format(backups.SETTINGS["table"]))
    rows, checksum = cursor.fetchone()
    return {"rows": str(rows), "checksum": str(checksum)}


def take():
    """Marks a restore point and says what the table holds there; empty if there is no such table yet.

    Writers wait only while the point is marked: what is counted afterwards is a snapshot of that moment.
    """
    with contextlib.ExitStack() as stack:
        marker, reader, switcher = (stack.enter_context(contextlib.closing(connect())) for _ in range(3))
        marker, reader, switcher = marker.cursor(), reader.cursor(), switcher.cursor()
        switcher.execute("select to_regclass(%s) is not null", [backups.SETTINGS["table"]])
        if not switcher.fetchone()[0]:
            return {}
        point, snapshot, timeline = mark(marker)
        reader.execute("set transaction isolation level repeatable read")
        reader.execute("set transaction snapshot %s", [snapshot])
        marker.connection.rollback()
        found = content(reader)
        # The point is of use once its WAL is in the bucket.
        switcher.execute("select pg_switch_wal()")
        return {"restore-point": point, "timeline": timeline, **found}


def connect():
    return psycopg2.connect(dbname=backups.SETTINGS["database"])


def mark(cursor):
    """A restore point before and after which the table is the same, and a snapshot of that moment."""
    point = f"proof-{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%S}"
    for attempt in range(1, TRIES + 1):
        try:
            cursor.execute(f"set local lock_timeout = {LOCK_TIMEOUT_MS}")
            cursor.execute(f"lock table {backups.SETTINGS['table']} in share mode")
            break
        except psycopg2.errors.LockNotAvailable:
            cursor.connection.rollback()
            if attempt == TRIES:
                raise backups.Failed("a long transaction holds the table: its rows could not be counted") from None
    cursor.execute("select pg_export_snapshot()")
    snapshot = cursor.fetchone()[0]
    cursor.execute("select ('x' || substr(pg_walfile_name(pg_create_restore_point(%s)), 1, 8))::bit(32)::int", [point])
    return point, snapshot, str(cursor.fetchone()[0])
