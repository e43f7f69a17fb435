"""Publishes an image: uploads its disk, registers it, copies it to the other region, shares it, removes old ones."""

import argparse
import hashlib
import os
import pathlib
import re

from ami import snapshot, terminal, waiting
from ami.terminal import Stop, say
from tools import regions
from tools.arguments import Parser

EPILOG = """
Prints a line REGION IMAGE for each region. Each build of a version has a serial: a file with the same packages as the newest
build is that build, one with others becomes the next. After Ctrl-C or an error run the same command again: it skips what is
done already. Credentials and endpoints come from the environment, as for every AWS client.
Undo: aws ec2 deregister-image --image-id IMAGE --delete-associated-snapshots
"""
NAMED = re.compile(r"dob-api_(.+)_(amd64|arm64)\.raw")


def arguments():
    parser = Parser(prog="./dev publish", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", metavar="FILE", type=built, help="dob-api_VERSION_ARCH.raw, as './dev image' wrote it")
    parser.add_argument("--region", default="a", help="register it in this region: a letter, or the cloud's name (default: %(default)s)")
    others = [letter for letter in regions.NAMES if letter != "a"]
    parser.add_argument("--copy-to", default=others, nargs="*", metavar="REGION", help=f"copy it to these regions (default: {' '.join(others)})")
    parser.add_argument("--share", default=[], nargs="+", metavar="ACCOUNT", help="accounts that may launch it")
    parser.add_argument(
        "--keep", type=positive, default=5, metavar="N", help="keep this many images per architecture and region (default: %(default)s)"
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would be done, and change nothing")
    return parser.parse_args()


def built(file):
    if not NAMED.fullmatch(os.path.basename(file)):
        raise argparse.ArgumentTypeError(f"{file} is not named dob-api_VERSION_ARCH.raw: './dev image' builds such a file")
    if not os.path.isfile(file):
        raise argparse.ArgumentTypeError(f"there is no file {file}: './dev image' builds one")
    return file


def positive(text):
    if int(text) < 1:
        raise argparse.ArgumentTypeError("at least 1: the newest image is never pruned")
    return int(text)


def client(service, region):
    import boto3
    import botocore.config

    config = botocore.config.Config(retries={"mode": "standard", "max_attempts": 10}, max_pool_connections=snapshot.WORKERS)
    return boto3.client(service, region_name=region, config=config)


def tags_of(described):
    return {tag["Key"]: tag["Value"] for tag in described.get("Tags", [])}


class Image:
    """What is published: a file, what its name says of it, and the packages that its manifest lists."""

    def __init__(self, file):
        self.file, (self.version, self.arch) = file, NAMED.fullmatch(os.path.basename(file)).groups()
        self.digest = snapshot.digest_of(file)
        manifest = pathlib.Path(file).with_suffix(".manifest")
        self.manifest = hashlib.sha256(manifest.read_bytes()).hexdigest() if manifest.exists() else None

    def number(self, serial):
        """Gives it its serial: which build of its version it is."""
        self.serial = serial
        # Names of images know neither the tilde nor the plus of versions.
        self.name = re.sub(r"[^\w.()/@'-]", "-", f"dob-api-{self.version}-{self.arch}-{serial}")
        tags = {"Project": "dob-api", "Name": self.name, "Version": self.version, "Architecture": self.arch, "Serial": str(serial)}
        tags |= {"Digest": self.digest} | ({"Manifest": self.manifest} if self.manifest else {})
        self.tags = [{"Key": key, "Value": value} for key, value in tags.items()]

    def same(self, tags):
        """Whether an image with these tags has the same bytes or, built by other tools, the same packages."""
        return tags.get("Digest") == self.digest or (self.manifest and tags.get("Manifest") == self.manifest)


def builds(ec2, image):
    """The builds of this version in a region, by serial."""
    wanted = {"Project": "dob-api", "Version": image.version, "Architecture": image.arch}
    filters = [{"Name": f"tag:{key}", "Values": [value]} for key, value in wanted.items()]
    there = ec2.describe_images(Owners=["self"], Filters=filters)["Images"]
    return {int(tags_of(one).get("Serial", 0)): one for one in there}


def choose(ec2, image):
    """The serial of this build: that of the newest one if nothing differs, otherwise the next."""
    there = builds(ec2, image)
    newest = max(there, default=0)
    image.number(newest if newest and image.same(tags_of(there[newest])) else newest + 1)
    if image.serial > newest > 0:
        say(f"dob-api {image.version} was built with other packages than build {newest}: this is build {image.serial}")


def published(ec2, image):
    """The image of this build in a region, if there is one."""
    found = builds(ec2, image).get(image.serial)
    if found and not image.same(tags_of(found)):
        raise Stop(f"{found['ImageId']} in {ec2.meta.region_name} is named {image.name} and has other packages: deregister it, then try again")
    return found["ImageId"] if found else None


def sealed(ec2, image):
    """A snapshot of the same bytes that an earlier attempt completed."""
    filters = [{"Name": "tag:Digest", "Values": [image.digest]}, {"Name": "tag:Project", "Values": ["dob-api"]}]
    found = ec2.describe_snapshots(OwnerIds=["self"], Filters=filters)["Snapshots"]
    return next((one["SnapshotId"] for one in found if one["State"] == "completed"), None)


def register(ec2, ebs, image, dry_run):
    """Returns the image, made unless it is there already."""
    found = published(ec2, image)
    if found:
        say(f"{image.name} is {found} already")
        return found
    source = sealed(ec2, image)
    if dry_run:
        sent = 0 if source else sum(1 for _ in snapshot.blocks(image.file)) * snapshot.BLOCK >> 20
        return say(f"would upload {sent} MB and register {image.name}")
    source = source or snapshot.upload(ebs, ec2, image.file, image.digest, image.tags)
    waiting.for_snapshot(ec2, source)
    disk = {"SnapshotId": source, "VolumeType": "gp3", "DeleteOnTermination": True}
    return ec2.register_image(
        Name=image.name,
        Description=f"dob-api {image.version} on Debian 13, build {image.serial}",
        Architecture={"amd64": "x86_64", "arm64": "arm64"}[image.arch],
        BootMode="uefi",
        ImdsSupport="v2.0",
        EnaSupport=True,
        VirtualizationType="hvm",
        RootDeviceName="/dev/xvda",
        BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": disk}],
        TagSpecifications=[{"ResourceType": "image", "Tags": image.tags}],
    )["ImageId"]


def copy(ec2, image, source, region, dry_run):
    found = published(ec2, image)
    if found or dry_run:
        say(f"{image.name} is {found} already" if found else f"would copy {image.name} from {region} to {ec2.meta.region_name}")
        return found
    specifications = [{"ResourceType": kind, "Tags": image.tags} for kind in ("image", "snapshot")]
    return ec2.copy_image(Name=image.name, SourceImageId=source, SourceRegion=region, TagSpecifications=specifications)["ImageId"]


def snapshots_of(described):
    return [disk["Ebs"]["SnapshotId"] for disk in described.get("BlockDeviceMappings", []) if disk.get("Ebs", {}).get("SnapshotId")]


def share(ec2, found, accounts, dry_run):
    if dry_run:
        say(f"would share it in {ec2.meta.region_name} with {', '.join(accounts)}")
        return
    ec2.modify_image_attribute(ImageId=found, LaunchPermission={"Add": [{"UserId": account} for account in accounts]})
    for disk in snapshots_of(ec2.describe_images(ImageIds=[found])["Images"][0]):
        ec2.modify_snapshot_attribute(SnapshotId=disk, Attribute="createVolumePermission", OperationType="add", UserIds=accounts)


def in_use(ec2):
    """The images that a launch template names in any of its versions, or that a host was launched from."""
    used = set()
    for page in ec2.get_paginator("describe_launch_templates").paginate():
        for template in page["LaunchTemplates"]:
            versions = ec2.get_paginator("describe_launch_template_versions")
            for found in versions.paginate(LaunchTemplateId=template["LaunchTemplateId"]):
                used |= {version["LaunchTemplateData"].get("ImageId") for version in found["LaunchTemplateVersions"]}
    for page in ec2.get_paginator("describe_instances").paginate():
        used |= {host["ImageId"] for group in page["Reservations"] for host in group["Instances"] if host["State"]["Name"] != "terminated"}
    return used


def prune(ec2, image, keep, dry_run):
    filters = [{"Name": "tag:Project", "Values": ["dob-api"]}, {"Name": "tag:Architecture", "Values": [image.arch]}]
    ours = ec2.describe_images(Owners=["self"], Filters=filters)["Images"]
    # The date has no parts of a second: the name tells two of the same second apart.
    old = sorted((one for one in ours if one["Name"] != image.name), key=lambda one: (one["CreationDate"], one["Name"]), reverse=True)[keep - 1 :]
    used = in_use(ec2) if old else set()
    for one in old:
        if one["ImageId"] in used:
            say(f"keeping {one['ImageId']} ({one['Name']}) in {ec2.meta.region_name}: a launch template or a host uses it")
            continue
        say(f"{'would prune' if dry_run else 'pruning'} {one['ImageId']} ({one['Name']}) in {ec2.meta.region_name}")
        if not dry_run:
            ec2.deregister_image(ImageId=one["ImageId"])
            for disk in snapshots_of(one):
                ec2.delete_snapshot(SnapshotId=disk)


def main():
    options = arguments()
    image = Image(options.file)
    # Each once, the first one first.
    names = list(dict.fromkeys(regions.named(region) for region in (options.region, *options.copy_to)))
    clients = {region: client("ec2", region) for region in names}
    home = names[0]
    first = clients[home]
    choose(first, image)
    found = {home: register(first, client("ebs", home), image, options.dry_run)}
    if not options.dry_run:
        waiting.for_image(first, found[home])
    for region in names[1:]:
        found[region] = copy(clients[region], image, found[home], home, options.dry_run)
    for region, ec2 in clients.items():
        if not options.dry_run:
            waiting.for_image(ec2, found[region])
        if options.share:
            share(ec2, found[region], options.share, options.dry_run)
        prune(ec2, image, options.keep, options.dry_run)
    for region, one in found.items():
        if one:
            print(region, one)


if __name__ == "__main__":
    terminal.main(main, "ami/publish", "interrupted; run the same command again, and it continues where it was")
