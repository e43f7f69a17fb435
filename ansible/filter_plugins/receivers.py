"""What is wrong with the setting of who hears alerts, and what Alertmanager needs of it; see the role monitoring."""

import re

# The ways named beside them take both.
SEVERITIES = ("page", "ticket")
WAYS = {"mail", "slack", "pagerduty", "webhooks", "sns_topic"}
ADDRESS = re.compile(r"[^\s@,<>\"]+@[^\s@,<>\"]+")
HTTPS = re.compile(r"https://[^\s/?#\"]+(/\S*)?")
HTTP = re.compile(r"https?://[^\s/?#\"]+(/\S*)?")


def scopes(receivers):
    """The ways by the severity that takes them, or "all"."""
    yield "all", {way: value for way, value in receivers.items() if way in WAYS}
    yield from ((severity, receivers.get(severity) or {}) for severity in SEVERITIES)


def receiver_faults(receivers):
    """A sentence for each fault. None repeats a secret."""
    faults, reached = [], {}
    for scope, ways in scopes(receivers):
        where = "monitoring_receivers" if scope == "all" else f"monitoring_receivers.{scope}"
        reached[scope] = any(ways.get(way) for way in WAYS)
        faults += [f"{where} has the unknown way {way!r}: choose among {', '.join(sorted(WAYS))}" for way in sorted(ways.keys() - WAYS)]
        faults += [f"{where}.{fault}" for fault in faults_of(ways)]
    faults += [
        f"nobody would hear an alert of severity {severity}: give monitoring_receivers, or its part {severity}, one of {', '.join(sorted(WAYS))}"
        for severity in SEVERITIES
        if not (reached["all"] or reached[severity])
    ]
    deadman = receivers.get("deadman_webhook")
    if deadman and not matches(HTTP, deadman):
        faults.append("monitoring_receivers.deadman_webhook is no URL that begins with https:// or http://")
    return faults


def faults_of(ways):
    mail, slack, pagerduty = ways.get("mail"), ways.get("slack"), ways.get("pagerduty")
    if mail:
        for name in ("to", "from"):
            if not matches(ADDRESS, mail.get(name)):
                yield f"mail.{name} is no address such as operator@example.org"
        port = re.fullmatch(r"[^\s:]+:(\d{1,5})", str(mail.get("smarthost")))
        if not port or not 0 < int(port[1]) < 65536:
            yield "mail.smarthost is no host with its port, such as mail.example.org:587"
        if bool(mail.get("username")) != bool(mail.get("password")):
            yield "mail has one of username and password: give both, or none"
        if mail.get("password") and mail.get("require_tls") is False:
            yield "mail would send its password in clear: leave out require_tls: false"
    if slack and not matches(HTTPS, slack.get("webhook_url")):
        yield "slack.webhook_url is no URL that begins with https://"
    if slack and slack.get("channel") and not matches(re.compile(r"[#@]?[^\s#@]+"), slack["channel"]):
        yield "slack.channel is no name such as #alerts"
    if pagerduty and not matches(re.compile(r"[0-9A-Za-z]{32}"), pagerduty.get("routing_key")):
        yield "pagerduty.routing_key is no integration key of Events API v2, which has 32 letters and digits"
    for number, url in enumerate(ways.get("webhooks") or [], 1):
        if not matches(HTTP, url):
            yield f"webhooks has no URL that begins with https:// or http:// in place {number}"
    if ways.get("sns_topic") and not matches(re.compile(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[\w-]{1,256}"), ways["sns_topic"]):
        yield "sns_topic is no ARN of a topic, such as arn:aws:sns:eu-west-1:123456789012:alarms"


def matches(pattern, value):
    return isinstance(value, str) and pattern.fullmatch(value)


def receiver_secrets(receivers):
    """The contents of files that Alertmanager reads, by name. Its configuration names them, and holds no secret itself."""
    secrets = {"deadman": receivers.get("deadman_webhook")}
    for scope, ways in scopes(receivers):
        secrets[f"{scope}-mail"] = (ways.get("mail") or {}).get("password")
        secrets[f"{scope}-slack"] = (ways.get("slack") or {}).get("webhook_url")
        secrets[f"{scope}-pagerduty"] = (ways.get("pagerduty") or {}).get("routing_key")
        secrets |= {f"{scope}-webhook-{number}": url for number, url in enumerate(ways.get("webhooks") or [], 1)}
    return {name: secret for name, secret in secrets.items() if secret}


class FilterModule:
    def filters(self):
        return {"receiver_faults": receiver_faults, "receiver_secrets": receiver_secrets}
