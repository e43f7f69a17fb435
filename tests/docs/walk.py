"""README.md, followed: see tests/docs/walk."""

import contextlib
import functools
import http.server
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import readme
from lab.hosts import nspawn

PARTS = ("greeting", "package", "cluster")
CHECKOUT = "/srv/dob-api"
REPOSITORY = "/srv/apt"
# What companies add to what Debian trusts: the way to the archive may lead through it.
AUTHORITIES = pathlib.Path("/usr/local/share/ca-certificates")
BUILD_S = 3600


class Here:
    """The network of this machine, which the host shares: it is a new user's laptop."""

    def __init__(self, owner):
        self.owner = owner

    def attach(self, name, address):
        return None


class Bare(nspawn.Host):
    """A Debian host as a new user has it, with a checkout."""

    def __init__(self, owner, rootfs):
        super().__init__(Here(owner), "bare", None, rootfs)
        disk = self.folder / "upper"
        clone(disk / CHECKOUT[1:])
        (disk / "etc/apt/apt.conf.d").mkdir(parents=True)
        (disk / "etc/apt/apt.conf.d/walk").write_text('APT::Get::Assume-Yes "true";\n')
        shutil.copy("/etc/resolv.conf", disk / "etc/resolv.conf")
        if AUTHORITIES.exists():
            shutil.copytree(AUTHORITIES, disk / str(AUTHORITIES)[1:])

    def joins(self):
        return ""

    def follow(self, commands):
        """Types what a page says, in the checkout, as root: what has no password needs no sudo."""
        typed = re.sub(r"^sudo ", "", commands, flags=re.M)
        return self.shell(f"cd {CHECKOUT}\n{typed}", timeout=BUILD_S).stdout

    def serve(self, commands):
        """Leaves what a page says running, as in another terminal, until it serves."""
        self.run("systemd-run", "--quiet", "--unit=terminal", "--setenv=HOME=/root", f"--working-directory={CHECKOUT}", "sh", "-euc", commands)
        # A build takes minutes: between two looks it gets the processor.
        waiting = "until curl -fs localhost:8080/healthz; do systemctl is-active --quiet terminal && sleep 1 || exit 1; done"
        if self.shell(waiting, check=False, timeout=BUILD_S).returncode != 0:
            raise nspawn.Failed(self.run("journalctl", "--unit=terminal", "--no-pager", "--lines=50").stdout)


def clone(folder):
    nspawn.run("git", "clone", "--quiet", "--no-hardlinks", readme.TOP, folder)


def greeted(said):
    if not re.search(readme.greeting(), said):
        raise nspawn.Failed(f"that is no greeting: {said}")


def greeting(host):
    host.shell("update-ca-certificates")
    host.follow(readme.block(readme.PREPARE))
    host.serve(readme.block(readme.RUN))
    greeted(host.follow(readme.block(readme.ASK)))
    host.run("systemctl", "stop", "terminal")


def package(host):
    """What packaging/README.md tells who publishes, then what README.md tells who installs."""
    with served(f"/proc/{host.leader}/root{REPOSITORY}") as url:
        host.follow("./dev need gpg gpg-agent\ngpg --batch --passphrase '' --quick-generate-key walk ed25519 sign")
        host.follow(
            f"./dev deb\n./dev apt-repo {REPOSITORY} --url {url} --key $(gpg --list-keys --with-colons | awk -F: '/^fpr/ {{ print $10; exit }}')"
        )
        host.follow(readme.block(readme.INSTALL).replace(readme.REPOSITORY, url))
    greeted(host.follow(readme.block(readme.ASK)))


@contextlib.contextmanager
def served(folder):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def cluster(checkout):
    """Continues after the leader was killed, as the block says."""
    up, *commands, down = readme.block(readme.CLUSTER).splitlines()
    leader, said = "a-db1", ""
    try:
        shown = typed(up, checkout)
        leader = re.search(r"^(a-db\d) .* leader ", shown, re.M)[1]
        for command in commands:
            said = typed(command.replace("a-db1", leader), checkout)
        greeted(said)
    finally:
        typed(down, checkout)


def typed(command, folder):
    print(f"$ {command}", flush=True)
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command], cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False
    )
    print(ran.stdout, end="", flush=True)
    if ran.returncode != 0:
        raise nspawn.Failed(f"{command}: exit {ran.returncode}")
    return ran.stdout


def free(port):
    with socket.socket() as one:
        if one.connect_ex(("127.0.0.1", port)) == 0:
            raise nspawn.Failed(f"something serves on 127.0.0.1:{port} already: end it, the walk needs the port")


@contextlib.contextmanager
def timed(times, part):
    begun = time.monotonic()
    print(f"== {part}", flush=True)
    yield
    times[part] = time.monotonic() - begun


def main(parts):
    if unknown := set(parts) - set(PARTS):
        raise nspawn.Failed(f"there is no part '{unknown.pop()}': choose of {', '.join(PARTS)}")
    times = {}
    if "package" in parts or "greeting" in parts:
        for port in (8080, 9080):
            free(port)
        rootfs = nspawn.run(readme.TOP / "tests/docs/bare", timeout=1800).stdout.strip()
        with nspawn.Run() as run:
            host = Bare(run, rootfs).boot()
            # The package is built by what the greeting installs.
            with timed(times, "greeting"):
                greeting(host)
            if "package" in parts:
                with timed(times, "package"):
                    package(host)
    if "cluster" in parts:
        with tempfile.TemporaryDirectory(dir="/var/tmp") as folder, timed(times, "cluster"):
            clone(f"{folder}/dob-api")
            cluster(f"{folder}/dob-api")
    for part, took in times.items():
        print(f"{part}: {took:.0f} s")


signal.signal(signal.SIGTERM, signal.default_int_handler)
try:
    main(sys.argv[1:] or PARTS)
except (nspawn.Failed, TimeoutError, subprocess.TimeoutExpired) as error:
    raise SystemExit(f"walk: {error}") from None
except KeyboardInterrupt:
    raise SystemExit("walk: interrupted") from None
