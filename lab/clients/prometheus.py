"""Metrics and alerts of a region, from its monitoring host's Prometheus."""

import json
import shlex
import subprocess

from lab.hosts import nspawn

# An unreachable host must not delay the view of the others.
PATIENCE_S = 4
API = "http://127.0.0.1:9090/api/v1"
# Alerts that fired for a person. The disk behind each host's root is this machine's, so alerts about it are left out.
FIRING = 'ALERTS{alertstate="firing",severity!="none"} unless ALERTS{alertname=~"DiskFilling|DiskFull",mountpoint="/"}'


def monitor(region):
    return f"{region}-monitor"


def told(cluster, host, command, patience=PATIENCE_S):
    """The output of a command on a host; nothing if the host does not answer in time."""
    ssh, *words = cluster.ssh_command(host, command)
    try:
        said = cluster.operator(ssh, "-o", f"ConnectTimeout={patience}", *words, capture_output=True, timeout=2 * patience)
    except subprocess.TimeoutExpired:
        return ""
    return said.stdout


def ask(cluster, region, queries):
    """The answers of a region's Prometheus by name, each a list of labels and value; none if it does not answer."""
    answers = documents(cluster, region, [f"-G {API}/query --data-urlencode {shlex.quote(f'query={query}')}" for query in queries.values()])
    series = [[(one["metric"], float(one["value"][1])) for one in answer["data"]["result"]] for answer in answers]
    return dict(zip(queries, series, strict=True))


def alerts(cluster, region, seconds):
    """The alerts that fired in the last seconds, by name, with the page of each."""
    fired = f"max_over_time(({FIRING})[{max(1, round(seconds))}s:5s])"
    asked = [f"-G {API}/query --data-urlencode {shlex.quote(f'query={fired}')}", f"{API}/rules?type=alert"]
    found, rules = documents(cluster, region, asked)
    pages = {rule["name"]: rule.get("annotations", {}).get("runbook_url", "") for group in rules["data"]["groups"] for rule in group["rules"]}
    return {one["metric"]["alertname"]: page(pages.get(one["metric"]["alertname"], "")) for one in found["data"]["result"]}


def page(url):
    """A page's name in the runbooks, from its URL."""
    return url.partition("runbooks/")[2].removesuffix(".md")


def documents(cluster, region, asked):
    """The answers to several requests over one connection."""
    text = told(cluster, monitor(region), "curl " + " --next ".join(f"-s -m 3 {request}" for request in asked))
    answers, decoder = [], json.JSONDecoder()
    while text:
        answer, end = decoder.raw_decode(text)
        answers.append(answer)
        text = text[end:]
    if len(answers) != len(asked):
        raise nspawn.Failed(f"Prometheus of {monitor(region)} does not answer")
    return answers
