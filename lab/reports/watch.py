"""The data of the monitoring hosts: alerts, slots, drills, traffic, logs."""

import shlex

from lab.clients.prometheus import ask, monitor
from lab.hosts import nspawn

QUERIES = {
    "alerts": "ALERTS{alertstate='firing',severity!='none'}",
    "slots": "pg_replication_slot_slot_is_active and on (instance) patroni_primary == 1",
    "left": "pg_replication_slot_safe_wal_size_bytes and on (instance) patroni_primary == 1",
    "drill": "time() - max(dob_restore_drill_last_success_timestamp_seconds)",
    "requests": "sum(rate(dob_api_http_requests_total[1m]))",
    "failed": "sum(rate(dob_api_http_requests_total{status=~'5..'}[1m])) or vector(0)",
    "slowest": "histogram_quantile(0.99, sum by (le) (rate(dob_api_http_request_duration_seconds_bucket{route='hello'}[1m])))",
}


def lines(cluster, region):
    """The state of a region besides its hosts, for a person on call."""
    try:
        known = ask(cluster, region, QUERIES)
    except (nspawn.Failed, ValueError):
        return [f"{monitor(region)} does not answer: no alerts, no figures"]
    found = [f"alerts in region {region}: {alerts(known['alerts'])}"]
    if known["slots"]:
        found.append(f"slots of {known['slots'][0][0]['instance']}: {slots(known['slots'], known['left'])}")
    found.append(f"last restore proven in region {region}: {age(known['drill'])}")
    found.append(f"traffic of region {region}: {traffic(known)}")
    return found


def alerts(firing):
    # Two alerts of the same name differ in one of these.
    parts = ("alertname", "instance", "host", "unit", "slot_name")
    named = sorted(" ".join(labels[part] for part in parts if part in labels) + f" ({labels['severity']})" for labels, _ in firing)
    return ", ".join(named) or "none fires"


def slots(active, left):
    room = {labels["slot_name"]: f"{bytes_left / 2**30:.1f} GiB left" for labels, bytes_left in left}
    state = {labels["slot_name"]: "in use" if value else "UNUSED" for labels, value in active}
    return ", ".join(f"{name} {state[name]}, {room.get(name, 'any WAL kept')}" for name in sorted(state))


def age(seconds):
    return f"{seconds[0][1] / 3600:.1f} h ago" if seconds else "never"


def traffic(known):
    if not known["requests"]:
        return "no service answers"
    slowest = known["slowest"][0][1] * 1000 if known["slowest"] else float("nan")
    text = f"{known['requests'][0][1]:.1f} requests/s, {known['failed'][0][1]:.1f} failed/s"
    return text if slowest != slowest else f"{text}, 99 % within {slowest:.0f} ms"


def search(words):
    """The command that searches the logs of a region: words are patterns, arguments with a dash go to journalctl."""
    patterns, options = [word for word in words if not word.startswith("-")], [word for word in words if word.startswith("-")]
    if not patterns:
        raise nspawn.Failed("say what to look for, as in: ./dev cluster logs ERROR FATAL --since=-1h")
    return shlex.join(["dob-api-logs", f"--grep={'|'.join(patterns)}", *options])
