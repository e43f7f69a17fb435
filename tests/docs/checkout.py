"""A copy of the project in which a task can do no harm: each program that installs, builds or asks the network is a trap."""

import os
import pathlib
import shutil
import subprocess
import tempfile
import typing

# What a task may use before its arguments are known to be right.
TOOLS = (
    "awk bash basename cat cp cut date df dirname du echo env expr find flock getopt git grep head hostname id ls mkdir mktemp mv python3 readlink"
    " realpath rm rmdir sed seq sh sleep sort stat tail tar tee test touch tr true uname wc xargs"
)
# What would change the machine, build or reach the network, and is taken down instead.
TRAPS = (
    "ansible-playbook apt apt-cache apt-get aws buildah cargo cc curl docker dpkg-buildpackage gcc go gpg ip mmdebstrap modprobe mount"
    " nsenter pip pip3 podman rustc rustup rsync ssh sudo sysctl systemctl systemd-nspawn terraform unshare wget"
)
TRAP = '#!/bin/sh\necho "${0##*/} $*" >>"$TRAPPED"\nexit 97\n'
NOBODY = 65534


class Ended(typing.NamedTuple):
    """How a task ended, and what it did besides."""

    code: int
    out: str
    err: str
    did: list


class Checkout:
    """The copy, with `dev` in it and a symbolic link to that elsewhere. A task runs as nobody where the tests run as root."""

    def __init__(self, top, system="Linux", link=False):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="dob-api-dev-"))
        self.top, self.home, self.trapped = self.folder / "top", self.folder / "home", self.folder / "trapped"
        self.system, self.command = system, [self.folder / "elsewhere/dev" if link else "./dev"]
        self.cwd = self.home if link else self.top
        listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=top, check=True, capture_output=True)
        for name in filter(None, listed.stdout.decode().split("\0")):
            if (top / name).is_file():
                (self.top / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(top / name, self.top / name)
        self._path()
        (self.folder / "elsewhere").mkdir()
        (self.folder / "elsewhere/dev").symlink_to(self.top / "dev")
        self.home.mkdir()
        self.trapped.write_text("")
        if os.getuid() == 0:
            subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", self.folder], check=True)
        self.settle()

    def _path(self):
        """The only programs that there are."""
        self.path = self.folder / "bin"
        self.path.mkdir()
        # Debian's Python, as the tests' own may be where nobody may read.
        places = "/usr/bin:/bin:/usr/sbin:/sbin"
        for name in TOOLS.split():
            if found := shutil.which(name, path=places):
                (self.path / name).symlink_to(found)
        if self.system != "Linux":
            (self.path / "uname").unlink()
            (self.path / "flock").unlink()
            (self.path / "uname").write_text(f"#!/bin/sh\ncase ${{1-}} in -m) echo arm64 ;; *) echo {self.system} ;; esac\n")
            (self.path / "uname").chmod(0o755)
        for name in TRAPS.split():
            if self.system == "Linux" or not name.startswith("apt"):
                (self.path / name).write_text(TRAP)
                (self.path / name).chmod(0o755)

    def _files(self):
        """What stands in the copy and in the home, with the time of its last change."""
        return {path: path.lstat().st_mtime_ns for kept in (self.top, self.home) for path in kept.rglob("*") if not path.is_dir()}

    def settle(self):
        """Takes the files as they are: only what changes from now on was done by a task."""
        self.held = self._files()

    def dev(self, *arguments, **environment):
        """Runs a task of the copy without a network, and returns which traps it called and which files it changed."""
        self.trapped.write_text("")
        known = {"PATH": str(self.path), "HOME": str(self.home), "TRAPPED": str(self.trapped), "LC_ALL": "C.UTF-8", "TMPDIR": str(self.home)}
        alone = ["unshare", "--net", "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if os.getuid() == 0 else []
        ran = subprocess.run(
            [*alone, "env", "-i", *(f"{name}={value}" for name, value in (known | environment).items()), *self.command, *arguments],
            cwd=self.cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        now = self._files()
        changed = sorted(
            str(path) for path in now.keys() ^ self.held.keys() | {path for path in now.keys() & self.held.keys() if now[path] != self.held[path]}
        )
        self.held = now
        return Ended(ran.returncode, ran.stdout, ran.stderr, self.trapped.read_text().splitlines() + changed)

    def remove(self):
        shutil.rmtree(self.folder)
