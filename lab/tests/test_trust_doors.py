"""Who may open which door: every pair of `doors.toml` is tried on the booted hosts."""

import pathlib
import tomllib

import pytest

from lab.hosts import plan

TABLE = tomllib.loads(pathlib.Path(__file__).with_name("doors.toml").read_text())
FOLDER = "/etc/ssl/cluster"
# Asks PostgreSQL to let a role in, and says whether it asks for the password. Every host has Python; psql is on few.
KNOCK = pathlib.Path(__file__).with_name("knock.py").read_text()


def curl(door, key):
    shown = [f"--cert {FOLDER}/{key}.crt", f"--key {FOLDER}/{key}.key"] if key else []
    body = [f"-X {door.get('method', 'POST')}", f"-d '{door['body']}'"] if "body" in door else []
    url = door["url"].format(host=door["at"])
    # curl fails where it is refused, and says 000 then: that is what is asked for.
    return " ".join(["curl", f"--cacert {FOLDER}/ca.crt", *shown, *body, "-s -m 5 -o /dev/null -w '%{http_code}'", url, "|| true"])


def answer(cluster, identity, door):
    """What a door says to an identity: 'open', or how it refused."""
    if "role" in door:
        # Where the host has no certificate of the role, the identity shows its own. The service shows none.
        own = f"{FOLDER}/{identity['key']}" if "key" in identity and door["role"] != "dob" else ""
        role = own if identity.get("roles") == "none" else f"{FOLDER}/{door['role']}"
        arguments = (door["at"], door["role"], door["database"], role, own)
        command = cluster.ssh_command(identity["on"], "python3 - " + " ".join(f"'{argument}'" for argument in arguments))
        said = cluster.operator(*command, input=KNOCK, check=True, capture_output=True, timeout=30).stdout.strip()
        return "open" if said == "asks for the password" else said
    said = cluster.ssh(identity["on"], curl(door, identity.get("key"))).strip()
    # A receiver of logs that refuses a GET has let the client in.
    return "open" if said[0] == "2" or (door["url"].endswith("/upload") and said != "000") else said


def test_every_door_of_the_table_is_opened_by_somebody_or_by_nobody_on_purpose():
    opened = {door for identity in TABLE["identities"].values() for door in identity["opens"]}
    assert opened - TABLE["doors"].keys() == set()
    shut = {"service-admin-listener", "prometheus", "replicator-as-a-client", "service-role-elsewhere", "exporter-role"}
    assert TABLE["doors"].keys() - opened == shut


# Of each kind one, for the short form: a door that does not answer takes five seconds.
SOME = {"database-host", "exporter-on-a-database-host", "service-host", "monitoring-host"}


@pytest.mark.parametrize("name", [name if name in SOME else pytest.param(name, marks=pytest.mark.long) for name in TABLE["identities"]])
def test_an_identity_opens_its_doors_and_no_other(whole, name):
    identity = TABLE["identities"][name]
    # What a balancer does not have of its own: the names of hosts, and the authority's certificate, which is public.
    names = "".join(f"{place.address} {place.name}\n" for place in plan.PLACES.values())
    known = whole.ssh_command(identity["on"], "getent hosts a-db1 >/dev/null || cat >>/etc/hosts")
    whole.operator(*known, input=names, check=True)
    command = whole.ssh_command(identity["on"], f"test -e {FOLDER}/ca.crt || {{ mkdir -p {FOLDER} && cat >{FOLDER}/ca.crt; }}")
    whole.operator(*command, input=pathlib.Path(whole.credentials.ca).read_text(), check=True)
    said = {door: answer(whole, identity, how) for door, how in TABLE["doors"].items()}
    assert sorted(door for door, text in said.items() if text == "open") == sorted(identity["opens"]), said
