"""The cluster at a glance."""

import concurrent.futures
import contextlib

from lab.clients import prometheus
from lab.hosts.cluster import LEADERS, Unusable
from lab.reports import watch

# More than there are requests, so that none waits for the time limit of another one.
ASKED_AT_ONCE = 32

ROW = "{:<8} {:<4} {:<10} {:<8} {:<14} {:>5}  {}"
SHOW = "sudo -u postgres /usr/local/lib/dob-api/backup show"


def show(cluster):
    """One line per host: its place, whether it is up, its role, its lag, its health.

    Everything is asked side by side, and each question has its bound: dead hosts cost seconds, however many they are.
    """
    with concurrent.futures.ThreadPoolExecutor(max_workers=ASKED_AT_ONCE) as pool:
        known = {region: pool.submit(watch.lines, cluster, region) for region in cluster.regions()}
        asked = {region: [pool.submit(listed, cluster, place) for place in cluster.places("database", region)] for region in cluster.regions()}
        # The list of the first host that answers.
        members = {region: next(filter(None, (answer.result() for answer in answers)), {}) for region, answers in asked.items()}
        saved = {region: pool.submit(backups, cluster, members[region]) for region in cluster.regions()}
        places = [machine.place for region in cluster.regions() for machine in cluster.machines.values() if machine.place.region == region]
        cuts = cluster.cloud.cuts()
        rows = pool.map(lambda place: row(cluster, place, cuts, members[place.region].get(place.name, {})), places)
        lines = [ROW.format("host", "zone", "address", "is", "role", "lag", "answers").rstrip(), *rows]
        lines += [f"backups in region {region}: {line.result()}" for region, line in saved.items()]
        return "\n".join(lines + [line for found in known.values() for line in found.result()])


def listed(cluster, place):
    """The members of a host's region as that host lists them; none if it does not answer."""
    with contextlib.suppress(Unusable, ValueError):
        return {member["name"]: member for member in cluster.get(f"https://{place.address}:8008/cluster")["members"]}
    return {}


def row(cluster, place, cuts, member):
    """The line of a host."""
    role, lag = member.get("role", "-"), member.get("lag", "-")
    zone = f"{place.region}{place.zone}"
    cells = (place.name, zone, place.address, condition(cluster, place, cuts), role, lag, answers(cluster, place, member))
    return ROW.format(*map(str, cells)).rstrip()


def condition(cluster, place, cuts):
    machine = cluster.machines[place.name]
    if not machine.is_up():
        return "down"
    zone = f"{place.region}{place.zone}"
    return "frozen" if machine.is_frozen() else "cut off" if cuts & {place.name, zone, place.region} else "up"


def answers(cluster, place, member):
    if place.kind == "database":
        return f"{member['state']}, timeline {member.get('timeline', '?')}" if member else "nothing"
    if place.kind == "storage":
        return "refuses strangers" if cluster.http_status(f"https://{place.address}/", "--insecure") == "403" else "nothing"
    if place.kind == "monitoring":
        return "see below" if cluster.machines[place.name].is_up() else "nothing"
    port = 80 if place.kind == "balancer" else 8080
    return f"/healthz {cluster.http_status(f'http://{place.address}:{port}/healthz')}"


def backups(cluster, members):
    """The leader's metrics about the region's bucket, and when the whole bucket was last read."""
    for name, member in members.items():
        if member["role"] in LEADERS:
            return prometheus.told(cluster, name, SHOW).strip() or "unknown"
    return "nobody answers"
