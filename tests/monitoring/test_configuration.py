"""Prometheus accepts the files that the playbook renders, and they have the right targets and links."""

import re
import shutil

import pytest
import yaml

from conftest import ROLE, RULES, TOP, render, run, tool

CLOUD = {"monitoring_discovery": {"region": "eu-west-1"}}
BASE = "https://wiki.example.org/dob/runbooks/"


def rule_files(**settings):
    return {path.name: ("rules.yml.j2", {"monitoring_rule_file": str(path), **settings}) for path in RULES} | {
        "runbooks.yml": ("runbooks.yml.j2", settings)
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """All files of a-monitor."""
    folder = tmp_path_factory.mktemp("made")
    files = {"inventory.yml": ("prometheus.yml.j2", {}), "cloud.yml": ("prometheus.yml.j2", CLOUD), "targets.yml": ("targets.yml.j2", {})}
    for name, url in (("default", None), ("linked", BASE), ("unlinked", "")):
        (folder / name).mkdir()
        settings = {} if url is None else {"monitoring_runbooks_url": url}
        files |= {f"{name}/{file}": how for file, how in rule_files(**settings).items()}
    return render(folder, files)


@pytest.mark.parametrize("discovery", ["inventory", "cloud"])
def test_prometheus_takes_its_configuration(made, tmp_path, discovery):
    file = made / f"{discovery}.yml"
    # The folders of a monitoring host, on this machine.
    for name in ("ca.crt", "monitor.crt", "monitor.key"):
        (tmp_path / name).touch()
    shutil.copytree(made / "default", tmp_path / "rules")
    shutil.copy(made / "targets.yml", tmp_path)
    here = file.read_text().replace("/etc/ssl/cluster", str(tmp_path)).replace("/etc/prometheus", str(tmp_path))
    (tmp_path / "prometheus.yml").write_text(here)
    said = run(tool("promtool"), "check", "config", tmp_path / "prometheus.yml")
    assert said.returncode == 0, said.stdout + said.stderr
    assert f"{len(RULES) + 1} rule files found" in said.stdout
    jobs = {job["job_name"] for job in yaml.safe_load(file.read_text())["scrape_configs"]}
    assert jobs - {"hosts", "patroni", "prometheus", "alertmanager"} == ({"service", "service-node"} if discovery == "cloud" else set())


def test_own_hosts_are_asked_for_everything_and_the_other_region_for_its_members_alone(made):
    targets = yaml.safe_load((made / "targets.yml").read_text())
    asked = {(target["labels"]["job"], *target["targets"]) for target in targets}
    own = {(job, f"a-{host}:{port}") for host in ("db1", "db2") for job, port in (("postgres", 9187), ("etcd", 2381), ("patroni", 8008))}
    own |= {("node", f"a-{host}:9100") for host in ("db1", "db2", "app1", "monitor")} | {("service", "a-app1:9080")}
    assert asked == own | {("patroni", f"b-{host}:8008") for host in ("db1", "db2")}
    for target in targets:
        name = target["targets"][0].split(":")[0]
        assert target["labels"] == {"job": target["labels"]["job"], "instance": name, "region": name[0], "zone": f"{name[0]}1"}


@pytest.mark.parametrize(
    ("folder", "base"),
    [
        ("default", yaml.safe_load((ROLE / "defaults/main.yml").read_text())["monitoring_runbooks_url"]),
        ("linked", BASE.rstrip("/")),
        ("unlinked", "docs/runbooks"),
    ],
)
def test_every_alert_leads_to_its_page_by_the_address_of_the_runbooks(made, folder, base):
    series = {
        rule["labels"]["alertname"]: rule["labels"]["url"]
        for rule in yaml.safe_load((made / folder / "runbooks.yml").read_text())["groups"][0]["rules"]
    }
    seen = {}
    for path in RULES:
        plain, linked = path.read_text(), (made / folder / path.name).read_text()
        # Nothing else in a rule changes.
        assert linked.replace(f"runbook_url: {base}/alerts/", "runbook_url: docs/runbooks/alerts/").strip() == plain.strip()
        seen |= {rule["alert"]: rule["annotations"]["runbook_url"] for group in yaml.safe_load(linked)["groups"] for rule in group["rules"]}
    assert seen == series
    for url in seen.values():
        page = re.fullmatch(rf"{re.escape(base)}/(alerts/[\w-]+\.md)", url)
        assert page and (TOP / "docs/runbooks" / page[1]).exists(), url
