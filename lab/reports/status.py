"""The cluster at a glance."""

from lab.hosts import plan
from lab.hosts.cluster import LEADERS
from lab.reports import watch

ROW = "{:<8} {:<4} {:<10} {:<8} {:<14} {:>5}  {}"
SHOW = "sudo -u postgres /usr/local/lib/dob-api/backup show"


def show(cluster):
    """One line a host: where it is, whether it is up, its part in the database, how far behind, what it answers."""
    rows = [ROW.format("host", "zone", "address", "is", "role", "lag", "answers").rstrip()]
    for region in cluster.regions():
        members = cluster.members(region)
        for place in (machine.place for machine in cluster.machines.values() if machine.place.region == region):
            member = members.get(place.name, {})
            role, lag = member.get("role", "-"), member.get("lag", "-")
            zone = f"{place.region}{place.zone}"
            row = (place.name, zone, place.address, condition(cluster, place), role, lag, answers(cluster, place, member))
            rows.append(ROW.format(*map(str, row)).rstrip())
    rows += [f"backups in region {region}: {backups(cluster, cluster.members(region))}" for region in cluster.regions()]
    rows += [line for region in cluster.regions() for line in watch.lines(cluster, region)]
    return "\n".join(rows)


def condition(cluster, place):
    machine = cluster.machines[place.name]
    if not machine.is_up():
        return "down"
    zone = f"{place.region}{place.zone}"
    cut = any(cluster.cloud.is_cut(part) for part in (place.name, zone, place.region) if part in plan.PARTS)
    return "frozen" if machine.is_frozen() else "cut off" if cut else "up"


def answers(cluster, place, member):
    if place.kind == "database":
        return f"{member['state']}, timeline {member.get('timeline', '?')}" if member else "nothing"
    if place.kind == "storage":
        return "refuses strangers" if cluster.http_status(f"https://{place.address}/", "--insecure") == "403" else "nothing"
    if place.kind == "monitoring":
        return "nothing" if condition(cluster, place) != "up" else "see below"
    port = 80 if place.kind == "balancer" else 8080
    return f"/healthz {cluster.http_status(f'http://{place.address}:{port}/healthz')}"


def backups(cluster, members):
    """What the leader of a region says of the bucket there, and of the last time that everything in it was read."""
    for name, member in members.items():
        if member["role"] in LEADERS:
            return watch.told(cluster, name, SHOW).strip() or "unknown"
    return "nobody answers"
