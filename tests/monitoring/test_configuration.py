"""The files that the playbook makes of its templates are ones that Prometheus and Alertmanager take, and tell whom they should."""

import json
import pathlib
import shutil
import sys

import pytest
import yaml

from conftest import ROLE, RULES, TOP, run, tool

BIN = pathlib.Path(sys.prefix) / "bin"
RECEIVERS = {
    "mail": {
        "to": "operator@example.org",
        "from": "alerts@example.org",
        "smarthost": "mail.example.org:587",
        "username": "dob",
        "password": "s\"e'c",
    },
    "webhooks": ["https://example.org/alerts"],
    "sns_topic": "arn:aws:sns:eu-west-1:123456789012:dob-api-a-alarms",
    "deadman_webhook": "https://example.org/deadman",
}


def places():
    """Two regions as an inventory has them."""
    groups = {"database": {}, "service": {}, "monitoring": {}, "region_a": {}, "region_b": {}}
    for network, region in enumerate("ab"):
        for number, (name, group) in enumerate((("db1", "database"), ("db2", "database"), ("app1", "service"), ("monitor", "monitoring"))):
            address = f"10.{network}.1.{number}"
            groups[group][f"{region}-{name}"] = {"region": region, "zone": f"{region}1", "address": address, "ansible_connection": "local"}
            groups[f"region_{region}"][f"{region}-{name}"] = {}
    return {"all": {"children": {group: {"hosts": hosts} for group, hosts in groups.items()}}}


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """Makes a file of one of the role's templates, as the playbook would on a-monitor."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "hosts.yml").write_text(json.dumps(places()))

    def make(template, receivers=RECEIVERS, **settings):
        made = folder / template.removesuffix(".j2")
        variables = {name: value for part in ("defaults", "vars") for name, value in yaml.safe_load((ROLE / part / "main.yml").read_text()).items()}
        variables |= settings | {"monitoring_receivers": receivers, "ansible_python_interpreter": sys.executable}
        variables.pop("monitoring_targets")
        task = (f"src={ROLE}/templates/{template}", f"dest={made}", "mode=0600")
        ansible = (BIN / "ansible", "a-monitor", "-i", folder / "hosts.yml", "--playbook-dir", TOP / "ansible")
        said = run(*ansible, "-m", "ansible.builtin.template", "-a", " ".join(task), "-e", json.dumps(variables))
        assert said.returncode == 0, said.stdout + said.stderr
        return made

    return make


@pytest.mark.parametrize("discovery", [{}, {"monitoring_discovery": {"region": "eu-west-1"}}], ids=["inventory", "cloud"])
def test_prometheus_takes_its_configuration(make, tmp_path, discovery):
    made = make("prometheus.yml.j2", **discovery)
    # The folders of a monitoring host, here.
    for name in ("ca.crt", "monitor.crt", "monitor.key"):
        (tmp_path / name).touch()
    shutil.copytree(ROLE / "files/rules", tmp_path / "rules")
    (tmp_path / "targets.yml").write_text(make("targets.yml.j2").read_text())
    here = made.read_text().replace("/etc/ssl/cluster", str(tmp_path)).replace("/etc/prometheus", str(tmp_path))
    (tmp_path / "prometheus.yml").write_text(here)
    said = run(tool("promtool"), "check", "config", tmp_path / "prometheus.yml")
    assert said.returncode == 0, said.stdout + said.stderr
    assert f"{len(RULES)} rule files found" in said.stdout
    jobs = {job["job_name"] for job in yaml.safe_load(made.read_text())["scrape_configs"]}
    assert jobs - {"hosts", "patroni", "prometheus", "alertmanager"} == ({"service", "service-node"} if discovery else set())


def test_own_hosts_are_asked_for_everything_and_the_other_region_for_its_members_alone(make):
    targets = yaml.safe_load(make("targets.yml.j2").read_text())
    asked = {(target["labels"]["job"], *target["targets"]) for target in targets}
    own = {(job, f"a-{host}:{port}") for host in ("db1", "db2") for job, port in (("postgres", 9187), ("etcd", 2381), ("patroni", 8008))}
    own |= {("node", f"a-{host}:9100") for host in ("db1", "db2", "app1", "monitor")} | {("service", "a-app1:9080")}
    assert asked == own | {("patroni", f"b-{host}:8008") for host in ("db1", "db2")}
    for target in targets:
        name = target["targets"][0].split(":")[0]
        assert target["labels"] == {"job": target["labels"]["job"], "instance": name, "region": name[0], "zone": f"{name[0]}1"}


@pytest.mark.parametrize("ways", [["mail"], ["webhooks"], ["sns_topic"], ["webhooks", "deadman_webhook"], list(RECEIVERS)], ids="+".join)
def test_alertmanager_accepts_its_configuration_with_any_receivers(make, ways):
    made = make("alertmanager.yml.j2", {way: RECEIVERS[way] for way in ways})
    said = run(tool("amtool"), "check-config", made)
    assert said.returncode == 0, said.stdout + said.stderr
    operators, deadman = yaml.safe_load(made.read_text())["receivers"]
    kinds = {"mail": "email_configs", "webhooks": "webhook_configs", "sns_topic": "sns_configs"}
    assert set(operators) == {"name"} | {kinds[way] for way in ways if way in kinds}
    assert ("webhook_configs" in deadman) == ("deadman_webhook" in ways)


@pytest.mark.parametrize(("alert", "receiver"), [("Watchdog", "deadman"), ("NoPrimary", "operators")])
def test_an_alert_goes_to_its_receivers(make, alert, receiver):
    said = run(tool("amtool"), "config", "routes", "test", f"--config.file={make('alertmanager.yml.j2')}", f"alertname={alert}", "region=a")
    assert said.stdout.split() == [receiver]
