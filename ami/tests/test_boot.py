"""The image, booted by firmware in an emulated machine, in a cloud that checks what it is asked."""

import base64
import functools
import re

import pytest

from conftest import DATABASE, MONITOR, PASSWORD, SUBNET, TOP
from lab.hosts import nspawn
from machine import Machine

DATE = ("-X", "PUT", "-d", '{"dateOfBirth":"1815-12-10"}')
STAGES = {
    "firmware": r"BdsDxe: starting|GRUB",
    "kernel": r"systemd\[1\]",
    "network": r"Finished systemd-networkd-wait-online",
    "settings and secrets": r"Finished dob-api-settings",
    "service": r"Started dob-api.service",
}


@pytest.fixture
def boot(network, image, authority):
    """Boots the image; a test CA and a report come to it from outside, as credentials of its firmware."""
    machines = []

    def encoded(text):
        return base64.b64encode(text.encode()).decode()

    def start(firmware):
        report = (TOP / "ami/tests/report.sh").read_text()
        credentials = {
            "tmpfiles.extra": f"w+~ /etc/ssl/certs/ca-certificates.crt - - - - {encoded(authority.ca.read_text())}\n"
            f"f~ /run/report.sh 0755 - - - {encoded(report)}\n",
            "systemd.extra-unit.report.service": "[Unit]\nDefaultDependencies=no\nAfter=multi-user.target dob-api.service\n"
            "[Service]\nType=exec\nExecStart=/bin/sh /run/report.sh\n",
            "systemd.unit-dropin.multi-user.target": "[Unit]\nWants=report.service\n",
        }
        machines.append(Machine(network, SUBNET, image, firmware, credentials))
        return machines[-1]

    yield start
    for machine in machines:
        machine.remove()


def greeted(machine, deadline=1200):
    """Waits for the first greeting, prints what the time went into, and returns nothing."""

    def asked():
        if machine.process.poll() is not None:
            raise nspawn.Failed(f"the machine ended:\n{machine.console[-3000:]}")
        return machine.curl("/hello/Ada", *DATE).endswith("204") and machine.curl("/hello/Ada").endswith("200")

    machine.wait_for(r"Started dob-api.service", deadline)
    nspawn.wait_until(asked, "a greeting", 60)
    now, before = machine.lines[-1][0], 0.0
    for stage, pattern in STAGES.items():
        at = machine.said(pattern)
        if at is not None:
            print(f"{stage}: {at - before:.1f} s")
            before = at
    print(f"first greeting after {max(now, before):.1f} s")


def watched(machine, certified, url):
    """Whether the monitoring host gets an answer."""
    client = ("ip", "netns", "exec", machine.network.namespace, "curl", "-sS", "-m", "20", "-o", "/dev/null", "-w", "%{http_code}")
    return nspawn.run(*client, *certified, url, check=False).stdout == "200"


def test_booted_by_uefi_it_greets_is_confined_and_drains_before_it_powers_off(boot, cloud, database, image, authority):
    used = nspawn.run("du", "--block-size=1M", image).stdout.split()[0]
    print(f"\nimage: {image.stat().st_size >> 20} MB, {used} MB of them not empty")
    cloud.set(user_data=f"DATABASE_URL=postgres://dob_api@{DATABASE}/dob_api\nDOB_API_DRAIN_DELAY=5s\nDOB_API_MONITOR=a-monitor/{MONITOR}\n")
    machine = boot("uefi")
    greeted(machine)
    assert machine.curl("/hello/Ada").startswith('{"message":"Hello, Ada!')
    assert machine.curl("/hello/nobody").endswith("404")
    assert machine.curl("/healthz").endswith("200")
    certified = ("--cacert", authority.ca, "--cert", authority("a-monitor"), "--connect-to", f"service::{machine.address}:")
    for port, path in ((9080, "ready"), (9100, "metrics")):
        assert machine.curl(f"/{path}", port=port) in ("", "000"), "nobody is answered in clear"
        nspawn.wait_until(functools.partial(watched, machine, certified, f"https://service:{port}/{path}"), "the monitoring host's answer", 120)
    stored = database.run("runuser", "-u", "postgres", "--", "psql", "-Atc", "select * from users", "dob_api").stdout
    assert stored == "ada|1815-12-10\n"

    machine.wait_for("report done")
    report = {name: text.strip() for name, text in re.findall(r"report (\S+) ?(.*)", machine.console)}
    print(report["took"], report["memory"], sep="\n")
    assert (report["state"], report["failed"]) == ("running", "")
    assert report["user"] == "dob-api"
    confined = dict(re.findall(r"(\w+): (\w+)", report["confined"]))
    assert confined == {"CapEff": "0" * 16, "CapBnd": "0" * 16, "NoNewPrivs": "1", "Seccomp": "2"}
    assert float(re.search(r"dob-api.service: ([0-9.]+)", report["exposure"])[1]) <= 1.5
    # The metadata service hands out the credentials of the host's role.
    outside, inside = report["metadata"].split()
    assert outside != "000" and inside == "000", report["metadata"]
    # 8080 on every address; 9080 and 9100 on loopback, and over TLS on the host's own; no SSH daemon or any other.
    assert report["ports"].split() == ["00000000:1F90", "0100007F:2378", "0100007F:238C", "32004E0A:2378", "32004E0A:238C"]
    assert report["secrets"].split() == ["tmpfs", "tmpfs", "600:root", "600:root"]
    assert [report[name] for name in ("on-disk", "passwords", "swap")] == [""] * 3

    # A client that stays, to see what it is told while the host goes down.
    machine.press_power_button()
    nspawn.wait_until(lambda: machine.curl("/healthz").endswith("503"), "the balancer is told to send no more", 60)
    assert re.search(r"(?i)connection: close", machine.curl("/hello/Ada", "-i")), "requests are served while the balancer notices"
    assert machine.process.wait(120) == 0
    machine.reader.join()
    print(f"powered off after {machine.lines[-1][0]:.1f} s")
    order = [machine.said(pattern) for pattern in ("draining:", '"message":"stopped"', "Stopped dob-api.service", "reboot: Power down")]
    assert None not in order and order == sorted(order), machine.console[-3000:]
    assert "stopped before all requests" not in machine.console
    # The console may be read by many: no date, no name, no secret. A year alone may stand in the kernel's time stamps.
    assert not re.search(rf"(?i)1815-12|/hello|\bada\b|{PASSWORD}|never.in|session..token", machine.console)


def test_booted_by_bios_it_says_what_is_missing_and_starts_when_it_is_there(boot, cloud, database):
    cloud.set(denied=["/dob-api/database-ca"])
    machine = boot("bios")
    line = r"dob-api is not started: the parameter /dob-api/database-ca in eu-west-1 is refused to the role dob-api: AccessDenied"
    machine.wait_for(line)
    assert machine.curl("/healthz") == "000", "a host without its settings must not look alive"
    cloud.set()
    greeted(machine)
