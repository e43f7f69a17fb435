"""Prints which version the service hosts run, and whether a newer build of it waits to be rolled out."""

import argparse

from ami import terminal
from ami.group import Region, tag
from ami.terminal import Stop, say
from ami.versions import Versions
from tools import regions
from tools.arguments import Parser

EPILOG = """
Prints version=VERSION, tag=TAG and waiting=true|false, as a step of a workflow puts them out. Changes nothing.
"""


def runs(region):
    """The image that new hosts of a region come from, and the newest build of its version."""
    template, current = region.template()
    versions = Versions(region.ec2, template)
    image = versions.image(current)
    found = region.ec2.describe_images(ImageIds=[image])["Images"]
    version = tag(found[0], "Version") if found else None
    if not version:
        raise Stop(f"the hosts of {region.group} run {image}, which 'ami/publish' did not publish: roll out a release first")
    return version, image, region.image(version, [found[0]["Architecture"]])


def main():
    Parser(prog="ami/updates", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    found = {name: runs(Region(name, None)) for name in regions.NAMES.values()}
    versions = {version for version, _, _ in found.values()}
    if len(versions) > 1:
        running = ", ".join(f"{version} in {name}" for name, (version, _, _) in found.items())
        raise Stop(f"the regions run different versions ({running}): finish the deploy of one of them first")
    for name, (_, image, newest) in found.items():
        if image != newest:
            say(f"{newest} waits to be rolled out in {name}, in place of {image}")
    (version,) = versions
    # A package's version has a tilde where that of the project, and so its tag, has a hyphen: 1.0.0~rc1.
    print(f"version={version}\ntag=v{version.replace('~', '-')}")
    print(f"waiting={'true' if any(image != newest for _, image, newest in found.values()) else 'false'}")


if __name__ == "__main__":
    terminal.main(main, "ami/updates", "interrupted; nothing was changed")
