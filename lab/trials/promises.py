"""What holds at the end of each trial, of a fault, a pair or a killed playbook: sentences about what does not."""

import concurrent.futures

from lab.hosts import nspawn
from lab.trials.fault import FAILURES

ROWS = "select count(*) || ' rows, ' || coalesce(md5(string_agg(username || ' ' || date_of_birth, ',' order by username)), 'empty') from users"
EPOCH = "select current_setting('dob_api.region_epoch', true)"
# What lets a playbook make a new cluster: whether it is gone. The file holds nothing, so its size is null only where it is not there.
UNDECIDED = "select size is null from pg_stat_file('/run/dob-api-region-decided-once', true)"
PATIENCE_S = 60


def broken(cluster):
    """Judges a cluster that no client writes to."""
    leading = {region: leader for region in cluster.regions() if (leader := cluster.leader(region))}
    if len(leading) != 1:
        return [f"not one primary, but {', '.join(leading.values()) or 'none'}"]
    try:
        for region in cluster.regions():
            cluster.wait_until_whole(region)
        primary = next(iter(leading.values()))
        return [*contents(cluster, primary), *epochs(cluster, primary), *decisions(cluster)]
    except FAILURES as error:
        return [f"the members cannot be compared: {error}"]


def contents(cluster, primary):
    """Compares the rows of every member of both regions, read when it has replayed the WAL up to where the primary was."""
    position = asked(cluster, primary, "select pg_current_wal_lsn()")
    rows = {primary: asked(cluster, primary, ROWS)}
    others = [place.name for region in cluster.regions() for place in cluster.places("database", region) if place.name != primary]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        rows |= zip(others, pool.map(lambda host: replayed(cluster, host, position), others), strict=True)
    if asked(cluster, primary, ROWS) != rows[primary]:
        return [f"the rows of {primary} changed while they were compared: somebody writes"]
    own = rows[primary]
    return [f"{host} has {there} at {position}, and the primary {primary} has {own}" for host, there in rows.items() if there != own]


def replayed(cluster, host, position):
    """The rows of a standby at a position, or why it has none."""
    there = f"select pg_last_wal_replay_lsn() >= '{position}'"
    try:
        nspawn.wait_until(lambda: asked(cluster, host, there) == "t", f"{host} replays up to {position}", PATIENCE_S)
        return asked(cluster, host, ROWS)
    except FAILURES as error:
        return f"no rows to show ({getattr(error, 'stderr', None) or error})".replace("\n", " ")


def epochs(cluster, primary):
    """The primary's region has one epoch, and the other region none that is later."""
    home = cluster.machines[primary].place.region
    known = {region: {asked(cluster, place.name, EPOCH) or "0" for place in cluster.places("database", region)} for region in cluster.regions()}
    wrong = [f"region {region} has several epochs: {', '.join(sorted(epochs))}" for region, epochs in known.items() if len(epochs) != 1]
    own = max(map(int, known[home]))
    later = [region for region, epochs in known.items() if region != home and max(map(int, epochs)) > own]
    return wrong + [f"region {region} is of a later epoch than region {home}, which takes writes" for region in later]


def decisions(cluster):
    """No host keeps a playbook's decision: its region would not stand down for another one."""
    hosts = [place.name for region in cluster.regions() for place in cluster.places("database", region)]
    return [f"{host} keeps the decision of a playbook" for host in hosts if asked(cluster, host, UNDECIDED) != "t"]


def asked(cluster, host, statement):
    """What a host's own PostgreSQL answers."""
    psql = cluster.ssh_command(host, "sudo", "-u", "postgres", "psql", "-X", "-At", "-v", "ON_ERROR_STOP=1", "-d", "dob")
    return cluster.operator(*psql, input=statement, check=True, capture_output=True, timeout=60).stdout.strip()
