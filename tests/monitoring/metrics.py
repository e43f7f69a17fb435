"""The metrics and labels that an expression names, and those that exist."""

import re

from tools import TOP

KNOWN = TOP / "lab/hosts/metrics.txt"
WORDS = {"and", "or", "unless", "offset", "bool"}
# Labels that Prometheus always adds.
TARGET = {"instance", "job", "region", "zone"}
OWN = {"up": TARGET, "ALERTS": TARGET | {"alertname", "alertstate", "severity"}}


def known():
    """The labels of every metric that was seen, by name, and the names that appear only during a fault."""
    labels, rare = {name: set(of) for name, of in OWN.items()}, set()
    for line in KNOWN.read_text().splitlines():
        if line and not line.startswith("#"):
            name, *of = line.lstrip("?").split()
            labels[name] = TARGET | set(of)
            if line.startswith("?"):
                rare.add(name)
    return labels, rare


def named(expression):
    """The metrics of an expression with the labels by which each is chosen, and the labels by which it groups or joins."""
    text = re.sub(r"\"(?:[^\"\\]|\\.)*\"|'[^']*'", '""', expression)
    joined = set()
    for _, inside in re.findall(r"\b(by|on|without|ignoring|group_left|group_right)\s*\(([^)]*)\)", text):
        joined |= {label.strip() for label in inside.split(",") if label.strip()}
    text = re.sub(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)", " ", text)
    chosen = {}
    for name, inside in re.findall(r"([a-zA-Z_]\w*)\s*\{([^}]*)\}", text):
        chosen.setdefault(name, set()).update(re.findall(r"(\w+)\s*[=!]~?", inside))
    text = re.sub(r"\{[^}]*\}", " ", text)
    for name in re.findall(r"(?<![\w.])([a-zA-Z_]\w*)\b(?!\s*\()", text):
        if name not in WORDS:
            chosen.setdefault(name, set())
    return chosen, joined
