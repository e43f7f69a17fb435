"""Replaces the service hosts of a region, one at a time, with hosts from an image, and follows the roll-out until it ends."""

import argparse
import os
import re
import time

from ami import terminal
from ami.group import ACTIVE, Region
from ami.terminal import Progress, Stop, say
from ami.versions import Versions
from tools import regions
from tools.arguments import Parser

EPILOG = """
IMAGE is an id, or a version that 'ami/publish' published; of a version, the image for the processors of the hosts is used.
Everything else comes from the newest version that Terraform wrote. So to apply a changed size or setting, roll out the
image that runs already. Hosts that match are skipped. A host reads its secrets at start: after a change, use --all.

New hosts start before old ones stop, and an alarm of the balancer rolls back. To undo while it runs: --rollback. To undo
afterwards: roll out the previous image, which is named at the start. After Ctrl-C the roll-out continues in the cloud:
--follow shows it again.
"""
PREFERENCES = {
    "MinHealthyPercentage": 100,
    "MaxHealthyPercentage": 200,
    "AutoRollback": True,
    "SkipMatching": True,
    "ScaleInProtectedInstances": "Refresh",
    "StandbyInstances": "Terminate",
}
# How often the cloud is asked; tests need not wait as long as a person watches.
PACE = float(os.environ.get("ROLL_OUT_PACE", "5"))


def arguments():
    parser = Arguments(prog="./dev roll-out", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("image", metavar="IMAGE", type=named, nargs="?", help="the image: ami-…, or a version such as 0.1.0")
    what.add_argument("--follow", action="store_true", help="follow the running roll-out")
    what.add_argument("--cancel", action="store_true", help="stop the running roll-out; old and new hosts stay")
    what.add_argument("--rollback", action="store_true", help="roll the running roll-out back to the previous version")
    parser.add_argument("--all", action="store_true", help="replace every host, even those that match; without IMAGE, use the image that runs")
    parser.add_argument("--region", default="a", help="the region: a letter, or the cloud's name (default: %(default)s)")
    parser.add_argument("--group", metavar="NAME", help="the Auto Scaling group, if several are tagged Project=dob-api, Role=service")
    parser.add_argument("--without-alarms", action="store_true", help="start even if there is no rollback alarm or one is already firing")
    parser.add_argument("--dry-run", action="store_true", help="print what would be done, and change nothing")
    return parser.parse_args()


class Arguments(Parser):
    """What argparse has no word for: an image, or --all, or both; or one of the ways to look at what runs."""

    def parse_known_args(self, *arguments):
        given, rest = super().parse_known_args(*arguments)
        looks = given.follow or given.cancel or given.rollback
        if given.all and looks:
            self.error("--all starts a roll-out: leave out --follow, --cancel and --rollback")
        if not (given.image or given.all or looks):
            self.error("name an image, --all, --follow, --cancel or --rollback")
        return given, rest


def named(image):
    if not re.fullmatch(r"ami-[0-9a-f]+|[0-9][\w.~+-]*", image):
        raise argparse.ArgumentTypeError(f"'{image}' is neither an image's id, as ami-0123abcd, nor a version, as 0.1.0")
    return image


def running(region, version, everything):
    """The id of a roll-out that does just this already; refuses beside another one."""
    found = region.refresh()
    if not found or found["Status"] not in ACTIVE:
        return None
    goal = found.get("DesiredConfiguration", {}).get("LaunchTemplate", {}).get("Version")
    if version and goal == str(version) and everything != found.get("Preferences", {}).get("SkipMatching", False):
        say(f"this roll-out runs already: {found['InstanceRefreshId']}")
        return found["InstanceRefreshId"]
    raise Stop("another roll-out runs: follow it with --follow, or end it with --cancel or --rollback, then try again")


def start(region, options):
    """Starts the refresh and returns its id; nothing if it is only looked at."""
    template, current = region.template()
    versions = Versions(region.ec2, template)
    source, before = versions.written(), versions.image(current)
    image = region.image(options.image or before, region.architectures(versions.settings(source).get("InstanceType")))
    version = versions.fit(image)
    found = running(region, version, options.all)
    if found:
        return found
    alarms = watching(region, options.without_alarms)
    if version == current and not options.all:
        say(f"new hosts of {region.group} come from {image} already: only hosts that do not are replaced")
    if versions.settings(current) != versions.settings(source):
        say(f"Terraform changed what hosts are: version {source} has other settings than version {current}, and new hosts get them")
    if not version and options.dry_run:
        say(f"would make version {versions.next()} of {template} from version {source}, with {image}")
    elif not version:
        version = versions.make(image)
    say(f"{region.group} in {region.name}: from {before} (version {current}) to {image}" + (f" (version {version})" if version else ""))
    if options.dry_run:
        return say(f"would replace {'all' if options.all else 'the'} hosts, watched by {', '.join(alarms) or 'no alarm'}")
    preferences = {**PREFERENCES, "SkipMatching": not options.all, **({"AlarmSpecification": {"Alarms": alarms}} if alarms else {})}
    desired = {"LaunchTemplate": {"LaunchTemplateId": template, "Version": str(version)}}
    started = region.scaling.start_instance_refresh(
        AutoScalingGroupName=region.group, Strategy="Rolling", DesiredConfiguration=desired, Preferences=preferences
    )
    undo = f"--rollback while it runs, or afterwards with: ami/roll-out {before} --region {region.name}"
    say(f"started {started['InstanceRefreshId']}; undo with {undo}")
    return started["InstanceRefreshId"]


def watching(region, without):
    """The alarms that take a bad version back; refuses if there is none, or if one rings already."""
    alarms = {} if without else region.watched()
    ringing = [name for name, state in alarms.items() if state == "ALARM"]
    if ringing:
        raise Stop(f"these alarms ring, and would take it back at once: {', '.join(ringing)}: fix what they report first, or say --without-alarms")
    if not alarms and not without:
        raise Stop(f"no alarm is named {region.group}-…: nothing would take a bad version back; or say --without-alarms")
    return sorted(alarms)


def follow(region, identity, wished=("Successful",)):
    """Shows how far it is until it ends; anything but the wished end is an error that says why."""
    progress = Progress(f"rolling out in {region.name}")
    try:
        while True:
            refresh = region.refresh(identity)
            status, left = refresh["Status"], refresh.get("InstancesToUpdate", 0)
            progress.show(refresh.get("PercentageComplete", 0), f"{status}, {left} hosts left. {refresh.get('StatusReason', '')}")
            if status not in ACTIVE:
                break
            # The pace of the questions: the cloud tells nobody when a refresh ends.
            time.sleep(PACE)
    finally:
        progress.end()
    if status in wished:
        return say(f"the roll-out is {status}")
    raise Stop(f"the roll-out is {status}: {refresh.get('StatusReason', 'no reason given')}\n{failures(region)}{ADVICE.get(status, '')}")


ADVICE = {
    "Failed": "Hosts may be old and new beside each other: roll out the image before, or fix the image and roll that out.",
    "RollbackFailed": "Hosts may be old and new beside each other: see the group's activities, then roll out the image before.",
    "Cancelled": "Hosts may be old and new beside each other: roll out an image again.",
    "RollbackSuccessful": "All hosts are of the version before. What a host said at its start: aws ec2 get-console-output --latest --instance-id ID",
}


def failures(region):
    """The last things that the group failed to do, a line each."""
    activities = region.scaling.describe_scaling_activities(AutoScalingGroupName=region.group, MaxRecords=20)["Activities"]
    failed = [one for one in activities if one.get("StatusCode") in ("Failed", "Cancelled")][:5]
    return "".join(f"  {one['Description']}: {one.get('StatusMessage', '')}\n" for one in failed)


def main():
    options = arguments()
    region = Region(regions.named(options.region), options.group)
    if options.image or options.all:
        identity = start(region, options)
        return identity and follow(region, identity)
    found = region.active()
    identity = found["InstanceRefreshId"]
    if options.follow:
        return follow(region, identity)
    if options.dry_run:
        return say(f"would {'cancel' if options.cancel else 'roll back'} {identity}, which is {found['Status']}")
    if options.cancel:
        region.scaling.cancel_instance_refresh(AutoScalingGroupName=region.group)
        return follow(region, identity, ("Cancelled",))
    region.scaling.rollback_instance_refresh(AutoScalingGroupName=region.group)
    return follow(region, identity, ("RollbackSuccessful",))


if __name__ == "__main__":
    terminal.main(main, "ami/roll-out", "no longer followed; it continues in the cloud: --follow looks at it, --cancel or --rollback ends it")
