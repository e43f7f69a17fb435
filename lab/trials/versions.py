"""Versions to roll out or to upgrade to: packages that the cluster was made with, under further numbers."""

import os
import pathlib
import re
import shutil
import tempfile

from lab.hosts import nspawn, plan
from lab.hosts.cluster import rootfs

# What a minor upgrade brings.
PACKAGES = (f"postgresql-{plan.POSTGRESQL}", "patroni", "etcd-server", "pgbackrest")
# An address of the first zone at which no host is: what the service is told of its database in the broken version.
NOWHERE = "postgres://nobody@10.0.1.99/nothing"
# Where the next major version of PostgreSQL comes from, and whom to believe there.
NEXT_DEBIAN, DEBIAN_KEYS = "forky", "/usr/share/keyrings/debian-archive-keyring.gpg"


def next_version(cluster, broken=False):
    """Publishes the package that the cluster was made with under a further version, and returns that."""
    debs = cluster.run.folder / "site/debs"
    packages = sorted(debs.glob("*.deb"), key=lambda package: package.stat().st_mtime)
    first, built = packages[0], nspawn.run("dpkg-deb", "--field", packages[0], "Version").stdout.strip()
    version = f"{built}+r{len(packages)}"
    package = debs / first.name.replace(built, version)
    with tempfile.TemporaryDirectory() as folder:
        tree = pathlib.Path(folder, "tree")
        nspawn.run("dpkg-deb", "--raw-extract", first, tree)
        substitute(tree / "DEBIAN/control", r"(?m)^Version: .*$", f"Version: {version}")
        if broken:
            # Where units go depends on the Debian release that built the package.
            substitute(next(tree.rglob("dob-api.service")), r"(?m)^(ExecStart=.*)$", rf"\1 --database-url={NOWHERE}")
        nspawn.run("dpkg-deb", "--root-owner-group", "-Zgzip", "--build", tree, package)
    cluster.publish(package)
    return version


def newer(cluster, package, publish=None):
    """Repacks a package of the database hosts' file system with a later version, publishes it, and returns the version."""
    root, folder = pathlib.Path(rootfs("database")), cluster.run.folder / "site/upgrades"
    folder.mkdir(exist_ok=True)
    status = nspawn.run("dpkg-query", f"--admindir={root}/var/lib/dpkg", "--status", package).stdout
    built, architecture = (re.search(rf"(?m)^{field}: (.*)$", status).group(1) for field in ("Version", "Architecture"))
    version = f"{built}+u{len(list(folder.glob(f'{package}_*'))) + 1}"
    packed = folder / f"{package}_{version}_{architecture}.deb"
    # What the database of packages knows of it beside what its author wrote; the second goes over several lines.
    control = re.sub(r"(?m)^(Status: .*\n|Conffiles:\n(?: .*\n)+)", "", status).replace(f"Version: {built}\n", f"Version: {version}\n")
    with tempfile.TemporaryDirectory() as temporary:
        archive, tree = pathlib.Path(temporary, "files.tar"), pathlib.Path(temporary, "tree")
        info, debian = root / "var/lib/dpkg/info", tree / "DEBIAN"
        debian.mkdir(parents=True)
        # A library may be there for several architectures.
        own = package if (info / f"{package}.list").exists() else f"{package}:{architecture}"
        # Manuals and the like were left out of the file system.
        files = [path for path in (info / f"{own}.list").read_text().splitlines() if path != "/." and os.path.lexists(f"{root}{path}")]
        members = "".join(f".{path}\n" for path in files)
        nspawn.run("tar", "--create", f"--file={archive}", f"--directory={root}", "--no-recursion", "--files-from=-", input=members)
        nspawn.run("tar", "--extract", f"--file={archive}", f"--directory={tree}", "--preserve-permissions")
        for file in info.glob(f"{own}.*"):
            if file.suffix not in (".list", ".md5sums"):
                shutil.copy(file, debian / file.suffix[1:])
        (debian / "control").write_text(control)
        nspawn.run("dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", tree, packed)
    (publish or cluster.publish)(packed)
    return version


def next_major(cluster, package):
    """Publishes a package of the next Debian, with what it needs that the database hosts do not have."""
    root, folder = pathlib.Path(rootfs("database")), cluster.run.folder / "site/next"
    for part in ("lists/partial", "archives/partial", "parts"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "sources.list").write_text(f"deb [signed-by={DEBIAN_KEYS}] http://deb.debian.org/debian {NEXT_DEBIAN} main\n")
    settings = {
        "Dir::State": folder,
        "Dir::State::status": root / "var/lib/dpkg/status",
        "Dir::Cache": folder,
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": folder / "parts",
        "Dir::Etc::preferencesparts": folder / "parts",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
    }
    options = [f"--option={name}={value}" for name, value in settings.items()]
    nspawn.run("apt-get", *options, "--quiet", "update")
    nspawn.run("apt-get", *options, "--quiet", "--yes", "--no-install-recommends", "--download-only", "install", package)
    cluster.publish(*(folder / "archives").glob("*.deb"))


def substitute(file, pattern, text):
    file.write_text(re.sub(pattern, text, file.read_text()))
