#!/usr/bin/python3
"""Compares the rows of a table on all members of both regions while writes continue.

A row version has the same xmin on every physical copy. Rows that changed after a mark, which every member has replayed, are left out
on all members; all others must be the same. No write waits for this.
"""

import concurrent.futures
import time

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: same_rows
short_description: Compares the rows of a table on all members of both regions
options:
  primary: {description: The address of the primary, required: true, type: str}
  standbys: {description: The addresses of all other members, required: true, type: list, elements: str}
  password: {description: The password of the superuser, required: true, type: str}
  certificates: {description: The folder of the authority's certificate and of the superuser's own, required: true, type: str}
  database: {description: The service's database, required: true, type: str}
  table: {description: Its table, required: true, type: str}
  key: {description: The table's primary key, required: true, type: str}
  patience: {description: How many seconds a member may take to replay what the primary wrote, type: int, default: 60}
author: [dob-api]
"""
TRIES = 5
MARK = "select pg_current_wal_flush_lsn()::text, pg_snapshot_xmin(pg_current_snapshot())::text::bigint & 4294967295"
# An xid of 32 bits comes again after four billion: only those just after the mark are newer.
CHANGED = "mod(xmin::text::bigint - {mark} + 4294967296, 4294967296) < 100000000"
DIGEST = "select count(*), coalesce(sum(hashtextextended({table}::text, 0)), 0)::text from {table} where not " + CHANGED


class Different(Exception):
    """A sentence that says which members differ."""


def connect(address, given):
    import psycopg2

    return psycopg2.connect(
        host=address, user="postgres", password=given["password"], dbname=given["database"],
        sslmode="verify-full", sslrootcert=f"{given['certificates']}/ca.crt", sslcert=f"{given['certificates']}/postgres.crt",
        sslkey=f"{given['certificates']}/postgres.key", channel_binding="require", require_auth="scram-sha-256", connect_timeout=10,
    )  # fmt: skip


def one(connection, statement, *values):
    with connection.cursor() as cursor:
        cursor.execute(statement, values or None)
        return cursor.fetchone()


def wait_for(connection, position, address, deadline):
    while not one(connection, "select pg_last_wal_replay_lsn() >= %s::pg_lsn", position)[0]:
        connection.rollback()
        if time.monotonic() > deadline:
            raise Different(f"{address} has not replayed {position}, which the primary wrote before")
        # The pace of the questions, under the deadline above.
        time.sleep(0.1)
    connection.rollback()


def compare(primary, standbys, given):
    """What each member holds, counted and summed."""
    names = {"table": given["table"], "key": given["key"]}
    primary.autocommit = True
    one(primary, "select pg_logical_emit_message(true, 'dob-api', 'compare')")
    position, mark = one(primary, MARK)
    digest, changed = DIGEST.format(mark=mark, **names), CHANGED.format(mark=mark)
    deadline = time.monotonic() + given["patience"]
    for address, connection in standbys.items():
        wait_for(connection, position, address, deadline)
        connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
        # The first statement takes the snapshot: it must be older than the primary's.
        one(connection, "select 1")
    primary.autocommit = False
    primary.set_session(isolation_level="REPEATABLE READ", readonly=True)
    with primary.cursor() as cursor:
        cursor.execute("select {key} from {table} where {changed}".format(changed=changed, **names))
        newer = [key for (key,) in cursor.fetchall()]
    rest = digest + " and {key} not in (select unnest(%s::text[]))".format(**names)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        members = {"primary": primary, **standbys}
        found = dict(zip(members, pool.map(lambda member: one(member, rest, newer), members.values()), strict=True))
    for connection in members.values():
        connection.rollback()
    return position, found


def main():
    arguments = {name: {"type": "str", "required": True} for name in ("primary", "certificates", "database", "table", "key")}
    arguments |= {"standbys": {"type": "list", "elements": "str", "required": True}, "patience": {"type": "int", "default": 60}}
    arguments |= {"password": {"type": "str", "required": True, "no_log": True}}
    module = AnsibleModule(arguments, supports_check_mode=True)
    given = module.params
    try:
        primary = connect(given["primary"], given)
        standbys = {address: connect(address, given) for address in given["standbys"]}
        # What was deleted meanwhile looks like a difference once.
        for _ in range(TRIES):
            position, found = compare(primary, standbys, given)
            if len(set(found.values())) == 1:
                module.exit_json(changed=False, rows=found["primary"][0], position=position)
        raise Different("; ".join(f"{name} holds {count} rows with the sum {total}" for name, (count, total) in found.items()))
    # A server's own errors are sentences, too; psycopg2 is on database hosts only.
    except Exception as error:
        module.fail_json(msg=f"the members of the regions do not hold the same rows, or one does not answer: {error}")


if __name__ == "__main__":
    main()
