"""Versions to roll out: the package that the cluster was made with, under further numbers."""

import pathlib
import re
import tempfile

import hosts

# An address of the first zone at which no host is: what the service is told of its database in the broken version.
NOWHERE = "postgres://nobody@10.0.1.99/nothing"


def next_version(cluster, broken=False):
    """Publishes the package that the cluster was made with under a further version, and returns that."""
    debs = cluster.run.folder / "site/debs"
    packages = sorted(debs.glob("*.deb"), key=lambda package: package.stat().st_mtime)
    first, built = packages[0], hosts.run("dpkg-deb", "--field", packages[0], "Version").stdout.strip()
    version = f"{built}+r{len(packages)}"
    package = debs / first.name.replace(built, version)
    with tempfile.TemporaryDirectory() as folder:
        tree = pathlib.Path(folder, "tree")
        hosts.run("dpkg-deb", "--raw-extract", first, tree)
        substitute(tree / "DEBIAN/control", r"(?m)^Version: .*$", f"Version: {version}")
        if broken:
            # Where units go depends on the Debian release that built the package.
            substitute(next(tree.rglob("dob-api.service")), r"(?m)^(ExecStart=.*)$", rf"\1 --database-url={NOWHERE}")
        hosts.run("dpkg-deb", "--root-owner-group", "-Zgzip", "--build", tree, package)
    cluster.publish(package)
    return version


def substitute(file, pattern, text):
    file.write_text(re.sub(pattern, text, file.read_text()))
