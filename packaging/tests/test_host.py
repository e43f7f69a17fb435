"""The package on booted Debian hosts: installed, confined, upgraded, broken, removed."""

import pathlib
import re

from conftest import version_of
from lab.hosts.nspawn import wait_until

UNIT = "dob-api.service"
REFUSED = 7  # curl's exit code
DATA = "/var/lib/dob-api"
PROBE = pathlib.Path(__file__).with_name("probe.sh").read_text()


def restarted(host, old):
    """Waits until a new process serves."""
    new = wait_until(lambda: host.property("MainPID") not in (old, "0") and host.property("MainPID"), "a new process")
    wait_until(lambda: host.property("ActiveState") == "active", "the service is active")
    return new


def status_of(host, field):
    return host.shell(f"sed -n 's/^{field}:[[:space:]]*//p' /proc/{host.property('MainPID')}/status").stdout.strip()


def installed_version(host):
    return host.run("dpkg-query", "--show", "--showformat=${Version}", "dob-api").stdout


def all_read_back(host, names):
    """Whether the service knows every one of these users."""
    urls = "".join(f'url = "http://127.0.0.1:8080{name}"\noutput = /dev/null\n' for name in names)
    answers = host.run("curl", "-sS", "-w", "%{http_code}\n", "-K", "-", input=urls).stdout.split()
    return answers == ["200"] * len(names)


def test_installed_from_the_repository_it_answers_and_outlives_a_reboot(host):
    host.save("ada", "1815-12-10")
    assert host.curl("/hello/Ada").startswith('{"message":"Hello, Ada!')
    assert host.curl("/hello/nobody").endswith("404")
    host.run("runuser", "-u", "nobody", "dob-api", "health")
    assert host.run("systemctl", "is-enabled", UNIT, "dob-api.socket").stdout.split() == ["enabled", "enabled"]
    assert "SIGNALS" in host.run("man", "dob-api").stdout
    host.run("systemctl", "stop", UNIT, "dob-api.socket")
    host.run("systemctl", "start", UNIT)
    assert host.run("systemctl", "is-active", "dob-api.socket").stdout == "active\n"
    host.kill()
    host.boot()
    assert host.knows("ada")


def test_the_running_process_has_no_rights(host):
    user = host.run("id", "--user", "dob-api").stdout.strip()
    assert user != "0"
    assert status_of(host, "Uid").split() == [user] * 4
    assert int(status_of(host, "CapPrm"), 16) == int(status_of(host, "CapBnd"), 16) == 0
    assert status_of(host, "NoNewPrivs") == "1"
    assert status_of(host, "Seccomp") == "2"
    assert host.run("stat", "-c", "%U %a", DATA).stdout.strip() == "dob-api 700"


def test_the_exposure_score_is_at_most_1_5(host):
    path = host.property("FragmentPath")
    verdict = host.run("systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=15", path, check=False)
    print(verdict.stdout[-200:])
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr
    assert host.run("systemd-analyze", "verify", path).stderr == ""


def test_what_the_sandbox_forbids_fails_in_it_and_works_outside(host):
    host.write("/usr/local/lib/probe.sh", PROBE)
    host.run("mkdir", "--mode=777", "/srv/open")
    attempts = re.findall(r"^attempt (\S+)", PROBE, re.M)
    free = host.shell("STATE_DIRECTORY=$(mktemp -d) sh /usr/local/lib/probe.sh").stdout.split()
    assert free == attempts, "the control must be able to do everything"

    unit = host.run("cat", host.property("FragmentPath")).stdout
    unit = re.sub(r"^(Requires|After|Restart|WatchdogSec|Type|EnvironmentFile).*\n", "", unit, flags=re.M)
    unit = unit.replace("ExecStart=/usr/bin/dob-api", "Type=oneshot\nExecStart=/bin/sh /usr/local/lib/probe.sh")
    # The probe is a script, so programs of the system must run; those in the data folder still may not.
    unit = unit.replace("ExecPaths=/usr/bin/dob-api", "ExecPaths=/usr\nStandardOutput=file:/run/probe")
    host.write("/run/systemd/system/probe.service", unit)
    host.run("systemctl", "start", "probe.service")
    assert host.run("cat", "/run/probe").stdout.split() == ["write-data"]


def test_an_upgrade_under_load_fails_no_request_and_keeps_the_edited_settings(host, debs):
    old, edit = host.property("MainPID"), "DOB_API_TIME_ZONE=Europe/Dublin"
    host.shell(f"echo {edit} >>/etc/default/dob-api")
    host.use_repository("upgraded")
    with host.load() as load:
        host.run("apt-get", "upgrade", "--yes", "-o", "Dpkg::Options::=--force-confold")
        new = restarted(host, old)
        load.goes_on()
    assert load.failures == []
    assert installed_version(host) == version_of(debs["next"])
    assert edit in host.run("cat", "/etc/default/dob-api").stdout
    assert edit in host.shell(f"tr '\\0' '\\n' </proc/{new}/environ").stdout
    assert all_read_back(host, load.acknowledged)


def test_a_restart_under_load_fails_no_request(host):
    with host.load() as load:
        for _ in range(2):
            old = host.property("MainPID")
            host.run("systemctl", "restart", UNIT)
            restarted(host, old)
            load.goes_on()
    assert load.failures == []
    assert all_read_back(host, load.acknowledged)


def test_killed_it_is_started_again_and_nothing_acknowledged_is_lost(host):
    with host.load() as load:
        for _ in range(3):
            load.goes_on()
            old = host.property("MainPID")
            host.run("kill", "-KILL", old)
            restarted(host, old)
    assert host.property("NRestarts") == "3"
    assert len(load.acknowledged) > 50 and all_read_back(host, load.acknowledged)


def test_frozen_it_is_restarted_by_the_watchdog(host):
    host.save("ada")
    old = host.property("MainPID")
    host.run("kill", "-STOP", old)
    wait_until(lambda: host.property("MainPID") != old, "the watchdog ends the frozen process", 60)
    restarted(host, old)
    assert host.knows("ada")
    assert "watchdog" in host.run("journalctl", "--unit", UNIT, "--output=cat").stdout.lower()


def test_a_wrong_setting_is_reported_once_and_fixed_by_one_restart(host):
    host.shell("echo DOB_API_THREADS=many >>/etc/default/dob-api")
    host.run("systemctl", "restart", UNIT, check=False)
    wait_until(lambda: host.property("ActiveState") == "failed", "the service gives up")
    assert (host.property("ExecMainStatus"), host.property("NRestarts")) == ("64", "0")
    assert "DOB_API_THREADS" in host.run("journalctl", "--unit", UNIT, "--output=cat").stdout
    # Clients who knock meanwhile make systemd try, and give up on the socket as well.
    host.curl("/healthz", check=False)
    host.shell("sed -i '/THREADS=many/d' /etc/default/dob-api")
    host.run("systemctl", "restart", UNIT)
    host.save("ada")


def test_a_drop_in_moves_the_port(host):
    host.write("/etc/systemd/system/dob-api.socket.d/port.conf", "[Socket]\nListenStream=\nListenStream=8181\n")
    host.shell("systemctl daemon-reload && systemctl restart dob-api.socket")
    assert host.run("curl", "-sS", "-w", "%{http_code}", f"http://{host.address}:8181/healthz").stdout.endswith("200")
    assert host.run("curl", "http://127.0.0.1:8080/healthz", check=False).returncode == REFUSED


def test_removed_it_keeps_the_data_and_purged_it_leaves_nothing(host):
    host.save("ada")
    host.shell("echo '# mine' >>/etc/default/dob-api")
    host.run("apt-get", "remove", "--yes", "dob-api")
    assert host.run("curl", "http://127.0.0.1:8080/healthz", check=False).returncode == REFUSED
    assert host.run("pgrep", "--exact", "dob-api", check=False).stdout == ""

    host.run("apt-get", "install", "--yes", "dob-api")
    assert host.knows("ada")
    assert "# mine" in host.run("cat", "/etc/default/dob-api").stdout

    host.shell("apt-get purge --yes dob-api && apt-get clean")
    left = host.run("find", "/", "-xdev", "-name", "*dob-api*").stdout.split()
    assert left == ["/etc/apt/sources.list.d/dob-api.sources"]
    assert host.shell("grep -l dob-api /etc/passwd /etc/group /etc/shadow /etc/gshadow || true").stdout == ""
    assert host.run("systemctl", "list-units", "--all", "--no-legend", "dob-api*").stdout == ""


def test_with_postgresql_on_the_host_the_settings_name_it_and_it_makes_role_database_and_table(host):
    host.shell("pg_createcluster $(ls /usr/lib/postgresql) main --start")
    host.shell("echo \"ALTER ROLE postgres PASSWORD 'top'\" | runuser -u postgres -- psql --quiet")
    host.write("/etc/credstore/dob-api.database-password", "secret\n", 0o600)
    host.write("/etc/credstore/dob-api.admin-database-url", "postgres://postgres:top@127.0.0.1/postgres\n", 0o600)
    host.shell("echo DATABASE_URL=postgres://greeter@127.0.0.1/greetings >>/etc/default/dob-api; systemctl restart dob-api")
    wait_until(lambda: host.run("dob-api", "health", check=False).returncode == 0, "the service reaches the database")
    host.save("ada")
    rows = host.shell("echo 'SELECT * FROM users' | runuser -u postgres -- psql -At greetings").stdout
    assert rows == "ada|2000-02-03\n"
    owner = "SELECT pg_get_userbyid(relowner), has_table_privilege('greeter', oid, 'insert') FROM pg_class WHERE relname = 'users'"
    assert host.shell(f'echo "{owner}" | runuser -u postgres -- psql -At greetings').stdout.endswith("|t\n")

    # Afterwards the administrator's URL can go.
    host.shell("rm /etc/credstore/dob-api.admin-database-url; systemctl restart dob-api")
    wait_until(lambda: host.run("dob-api", "health", check=False).returncode == 0, "the service reaches the database")
    assert host.knows("ada")


def test_its_user_is_known_to_postgresql_without_a_password(host):
    host.shell("pg_createcluster $(ls /usr/lib/postgresql) main --start")
    host.shell("runuser -u postgres -- createuser dob-api && runuser -u postgres -- createdb --owner=dob-api dob-api")
    host.shell("echo DATABASE_URL=postgres://dob-api@%2Frun%2Fpostgresql/dob-api >>/etc/default/dob-api; systemctl restart dob-api")
    wait_until(lambda: host.run("dob-api", "health", check=False).returncode == 0, "the service reaches the database")
    host.save("ada")
    assert host.knows("ada")
