"""The object store of a region: S3 with TLS and a key, objects as files on the disk of its host."""

import pathlib
import shutil

from lab.hosts import plan

BUCKETS = "/var/lib/s3"
CERTIFICATE = "/etc/haproxy/s3.pem"

UNIT = f"""
[Unit]
Description=Object store
[Service]
DynamicUser=yes
StateDirectory=s3
ExecStartPre=/bin/mkdir -p {BUCKETS}/{{bucket}}
ExecStart=/usr/local/bin/s3s-fs --host=127.0.0.1 --access-key={{key}} --secret-key={{secret}} {BUCKETS}
Restart=always
[Install]
WantedBy=multi-user.target
"""

PROXY = f"""
global
    log stdout format raw local0 notice
    ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend public
    bind :443 ssl crt {CERTIFICATE}
    default_backend store
backend store
    # A name that is a folder here does not exist in S3.
    http-request set-var(txn.method) method
    http-response set-status 404 if {{ var(txn.method) -m str HEAD }} {{ status 500 }}
    server store 127.0.0.1:8014
"""


def bucket(region):
    return f"dob-api-{region}"


def install(machine, credentials, program):
    """Turns a bare host into the object store of its region."""
    region, secrets = machine.place.region, credentials.secrets()
    shutil.copy(program, pathlib.Path("/proc", str(machine.leader), "root", "usr/local/bin/s3s-fs"))
    unit = UNIT.format(bucket=bucket(region), key=secrets[f"pgbackrest_s3_key_{region}"], secret=secrets[f"pgbackrest_s3_secret_{region}"])
    machine.write("/etc/systemd/system/s3.service", unit, 0o600)
    machine.write(CERTIFICATE, credentials.certificate(plan.endpoint(region)), 0o600)
    machine.write("/etc/haproxy/haproxy.cfg", PROXY)
    # The program answers in two pieces, of which the kernel keeps the second back until the first is acknowledged: 40 ms for each
    # request, were it not acknowledged at once.
    route = "local 127.0.0.1 dev lo table local proto kernel scope host src 127.0.0.1 quickack 1"
    machine.inside("ip", "route", "replace", *route.split())
    machine.run("systemctl", "enable", "--now", "s3", "haproxy")


def names():
    """The names that a cloud's name service resolves."""
    return "".join(f"{place.address} {plan.endpoint(place.region)}\n" for place in plan.PLACES.values() if place.kind == "storage")
