"""Paths of the monitoring's parts, and the programs that check them."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest
import yaml

TOP = pathlib.Path(__file__).resolve().parents[2]
ROLE = TOP / "ansible/roles/monitoring"
RULES = sorted((ROLE / "files/rules").glob("*.yml"))
HOST = pathlib.Path(os.environ["MONITORING_HOST"])
BIN = pathlib.Path(sys.prefix) / "bin"


def run(*command, **options):
    """Runs a command and returns it, with its output as text."""
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300, **options)


def tool(name):
    """Finds a program of the monitoring hosts."""
    return HOST / "usr/bin" / name


def alerts():
    """Every alert with the file of its rule."""
    for path in RULES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from ((path, rule) for rule in group["rules"])


def expressions():
    """Every expression for Prometheus, by its place."""
    for path, rule in alerts():
        yield f"{path.name}: {rule['alert']}", rule["expr"]
    for path in sorted((ROLE / "files/dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            yield from ((f"{path.name}: {panel['title']} {target['refId']}", target["expr"]) for target in panel["targets"])
    for path in sorted((ROLE / "files/consoles").glob("*.html")):
        asked = re.findall(r'\bquery \(?(?:printf )?"((?:[^"\\]|\\.)*)"', path.read_text())
        yield from ((f"{path.name}: {one}", filled(one)) for one in asked)
        yield from ((f"{path.name}: {one}", filled(one)) for one in re.findall(r'\bdata-query="([^"]*)"', path.read_text()))
    asked = re.search(r"^QUERIES = \{\n(.*?)^\}", (TOP / "lab/reports/watch.py").read_text(), re.M | re.S)[1]
    yield from ((f"watch.py: {name}", one) for name, one in re.findall(r'^    "(\w+)": "(.*)",$', asked, re.M))


def filled(expression):
    """An expression of the console with the text that the page inserts: a whole selector, a matcher, or a label's value."""
    expression = re.sub(r"\{ *\{\{-? \$\w+ -?\}\} *\}", "", expression)
    expression = re.sub(r"(?<=\w)%s", "", expression)
    return re.sub(r"(?<=[{,])%s", "region='x'", expression).replace("%s", "x")


@pytest.fixture
def checked(tmp_path):
    """Checks a document of rules or tests with promtool, and returns its output."""

    def check(command, content):
        file = tmp_path / "content.yml"
        file.write_text(yaml.safe_dump(content, sort_keys=False, width=1000))
        return run(tool("promtool"), *command, file)

    return check


def places():
    """Two regions, as in an inventory."""
    groups = {"database": {}, "service": {}, "monitoring": {}, "region_a": {}, "region_b": {}}
    for network, region in enumerate("ab"):
        for number, (name, group) in enumerate((("db1", "database"), ("db2", "database"), ("app1", "service"), ("monitor", "monitoring"))):
            address = f"10.{network}.1.{number}"
            groups[group][f"{region}-{name}"] = {"region": region, "zone": f"{region}1", "address": address, "ansible_connection": "local"}
            groups[f"region_{region}"][f"{region}-{name}"] = {}
    return {"all": {"children": {group: {"hosts": hosts} for group, hosts in groups.items()}}}


def play(folder, tasks, **variables):
    """Runs tasks as a playbook would on a-monitor, with the role's own variables."""
    known = {name: value for part in ("defaults", "vars") for name, value in yaml.safe_load((ROLE / part / "main.yml").read_text()).items()}
    known.pop("monitoring_targets")
    known |= {"monitoring_rules": str(ROLE / "files/rules"), "ansible_python_interpreter": sys.executable, **variables}
    (folder / "hosts.yml").write_text(json.dumps(places()))
    book = folder / "play.yml"
    book.write_text(json.dumps([{"hosts": "a-monitor", "gather_facts": False, "vars": known, "tasks": tasks}]))
    (folder / "group_vars").unlink(missing_ok=True)
    (folder / "group_vars").symlink_to(TOP / "ansible/group_vars")
    environment = {**os.environ, "ANSIBLE_FILTER_PLUGINS": str(TOP / "ansible/filter_plugins")}
    return run(BIN / "ansible-playbook", "-i", folder / "hosts.yml", book, env=environment)


def render(folder, files):
    """Renders templates of the role in one run: for each file name, a template and its variables."""
    tasks = [
        {"ansible.builtin.template": {"src": str(ROLE / "templates" / template), "dest": str(folder / name), "mode": "0600"}, "vars": variables}
        for name, (template, variables) in files.items()
    ]
    said = play(folder, tasks)
    assert said.returncode == 0, said.stdout + said.stderr
    return folder
