"""Replaces the service hosts of a region, one after the other, by hosts from an image; follows it to its end."""

import argparse
import os
import re
import time

from ami import terminal
from ami.terminal import Progress, Stop, say
from tools.arguments import Parser

EPILOG = """
The image is named by its id, or by the version that 'ami/publish' gave it. New hosts are launched before old ones
end, and an alarm of the balancer brings the old ones back. Undo while it runs: --rollback. Undo afterwards: roll out
the image before; it is named at the start. After Ctrl-C it goes on in the cloud: --follow looks at it again.
"""
ACTIVE = ("Pending", "InProgress", "Cancelling", "RollbackInProgress", "Baking")
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
    parser = Parser(prog="ami/roll-out", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("image", metavar="IMAGE", type=named, nargs="?", help="the image: ami-…, or a version such as 0.1.0")
    what.add_argument("--follow", action="store_true", help="follow the roll-out that runs")
    what.add_argument("--cancel", action="store_true", help="stop the roll-out that runs; hosts stay as they are, old beside new")
    what.add_argument("--rollback", action="store_true", help="take the roll-out that runs back to the version before")
    parser.add_argument("--region", default="eu-west-1", help="whose hosts (default: %(default)s)")
    parser.add_argument("--group", metavar="NAME", help="the Auto Scaling group, if several are tagged Project=dob-api, Role=service")
    parser.add_argument("--without-alarms", action="store_true", help="start though no alarm, or one that rings, could bring it back")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and change nothing")
    return parser.parse_args()


def named(image):
    if not re.fullmatch(r"ami-[0-9a-f]+|[0-9][\w.~+-]*", image):
        raise argparse.ArgumentTypeError(f"'{image}' is neither an image's id, as ami-0123abcd, nor a version, as 0.1.0")
    return image


class Region:
    """The clients of a region and the group of service hosts in it."""

    def __init__(self, name, group):
        import boto3

        self.name = name
        self.ec2, self.scaling, self.alarms = (boto3.client(service, region_name=name) for service in ("ec2", "autoscaling", "cloudwatch"))
        self.group = group or self.find_group()

    def find_group(self):
        filters = [{"Name": "tag:Project", "Values": ["dob-api"]}, {"Name": "tag:Role", "Values": ["service"]}]
        pages = self.scaling.get_paginator("describe_auto_scaling_groups").paginate(Filters=filters)
        names = [group["AutoScalingGroupName"] for page in pages for group in page["AutoScalingGroups"]]
        if len(names) != 1:
            found = ", ".join(names) or "none"
            raise Stop(f"{self.name} should have one group tagged Project=dob-api and Role=service, and has: {found}; name it with --group")
        return names[0]

    def described(self):
        groups = self.scaling.describe_auto_scaling_groups(AutoScalingGroupNames=[self.group])["AutoScalingGroups"]
        if not groups:
            raise Stop(f"{self.name} has no Auto Scaling group {self.group}")
        return groups[0]

    def template(self):
        """The launch template and the number of its version that new hosts come from."""
        group = self.described()
        template = group.get("LaunchTemplate")
        if not template:
            raise Stop(f"{self.group} has no launch template of its own: './dev infra' makes one")
        if not template["Version"].isdigit():
            raise Stop(
                f"{self.group} launches the version {template['Version']}, which names no version to go back to: "
                "give the group a number (aws autoscaling update-auto-scaling-group --launch-template)"
            )
        return template["LaunchTemplateId"], template["Version"]

    def image_of(self, template, version):
        found = self.ec2.describe_launch_template_versions(LaunchTemplateId=template, Versions=[version])
        return found["LaunchTemplateVersions"][0]["LaunchTemplateData"].get("ImageId")

    def image(self, wanted):
        """The image that is meant, if it is there, ready, and fits the hosts."""
        if wanted.startswith("ami-"):
            found = self.ec2.describe_images(Filters=[{"Name": "image-id", "Values": [wanted]}])["Images"]
        else:
            filters = [{"Name": "tag:Project", "Values": ["dob-api"]}, {"Name": "tag:Version", "Values": [wanted]}]
            found = self.ec2.describe_images(Filters=filters)["Images"]
        if not found:
            raise Stop(f"{self.name} has no image {wanted}: 'ami/publish' brings one there")
        if len(found) > 1:
            names = ", ".join(f"{one['ImageId']} ({one['Architecture']})" for one in found)
            raise Stop(f"the version {wanted} has several images: name one of {names}")
        if found[0]["State"] != "available":
            raise Stop(f"{found[0]['ImageId']} is {found[0]['State']}, not available: wait until 'ami/publish' has ended")
        return found[0]

    def watched(self):
        """The alarms of the group's balancer, by name, with their states."""
        pages = self.alarms.get_paginator("describe_alarms").paginate(AlarmNamePrefix=f"{self.group}-", AlarmTypes=["MetricAlarm"])
        return {
            alarm["AlarmName"]: alarm["StateValue"]
            for page in pages
            for alarm in page["MetricAlarms"]
            if alarm.get("Namespace") == "AWS/ApplicationELB"
        }

    def refresh(self, identity=None):
        """The newest instance refresh, or that one; none if there never was one."""
        which = {"InstanceRefreshIds": [identity]} if identity else {"MaxRecords": 1}
        found = self.scaling.describe_instance_refreshes(AutoScalingGroupName=self.group, **which)["InstanceRefreshes"]
        return found[0] if found else None

    def active(self):
        found = self.refresh()
        if not found or found["Status"] not in ACTIVE:
            raise Stop(f"no roll-out runs in {self.group} ({self.name}); to go back after one has ended, roll out the image before")
        return found


def prepare(region, image, template, current, dry_run):
    """Returns the number of a launch template version with the image; one that an earlier attempt made serves too."""
    pages = region.ec2.get_paginator("describe_launch_template_versions").paginate(LaunchTemplateId=template)
    versions = sorted((one for page in pages for one in page["LaunchTemplateVersions"]), key=lambda one: -one["VersionNumber"])
    newest = versions[0]
    if newest["LaunchTemplateData"].get("ImageId") == image and newest.get("VersionDescription") == f"{image} from {current}":
        return str(newest["VersionNumber"])
    if dry_run:
        return say(f"would make version {newest['VersionNumber'] + 1} of {template} from version {current}, with {image}")
    made = region.ec2.create_launch_template_version(
        LaunchTemplateId=template, SourceVersion=current, VersionDescription=f"{image} from {current}", LaunchTemplateData={"ImageId": image}
    )
    return str(made["LaunchTemplateVersion"]["VersionNumber"])


def start(region, wanted, without_alarms, dry_run):
    """Starts the refresh and returns its id; nothing if no host needs one."""
    image = region.image(wanted)["ImageId"]
    running = region.refresh()
    if running and running["Status"] in ACTIVE:
        goal = running.get("DesiredConfiguration", {}).get("LaunchTemplate", {})
        if goal and region.image_of(goal["LaunchTemplateId"], goal["Version"]) == image:
            say(f"this roll-out runs already: {running['InstanceRefreshId']}")
            return running["InstanceRefreshId"]
        raise Stop("another roll-out runs: follow it with --follow, or end it with --cancel or --rollback, then try again")
    template, current = region.template()
    before = region.image_of(template, current)
    if before == image:
        say(f"new hosts of {region.group} come from {image} already: only hosts that do not are replaced")
        version = current
    else:
        version = prepare(region, image, template, current, dry_run)
    say(f"{region.group} in {region.name}: from {before} (version {current}) to {image}" + (f" (version {version})" if version else ""))
    alarms = region.watched()
    ringing = [name for name, state in alarms.items() if state == "ALARM"]
    if not without_alarms and (not alarms or ringing):
        raise Stop(
            (
                f"these alarms ring, and would take it back at once: {', '.join(ringing)}: mend what they tell first"
                if ringing
                else f"no alarm is named {region.group}-…: nothing would take a bad version back"
            )
            + "; or say --without-alarms"
        )
    names = [] if without_alarms else sorted(alarms)
    if dry_run:
        return say(f"would replace the hosts, watched by {', '.join(names) or 'no alarm'}")
    preferences = {**PREFERENCES, **({"AlarmSpecification": {"Alarms": names}} if names else {})}
    desired = {"LaunchTemplate": {"LaunchTemplateId": template, "Version": version}}
    started = region.scaling.start_instance_refresh(
        AutoScalingGroupName=region.group, Strategy="Rolling", DesiredConfiguration=desired, Preferences=preferences
    )
    undo = f"ami/roll-out {before} --region {region.name}"
    say(f"started {started['InstanceRefreshId']}; undo with --rollback while it runs, or afterwards with: {undo}")
    return started["InstanceRefreshId"]


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
            time.sleep(PACE)
    finally:
        progress.end()
    if status in wished:
        return say(f"the roll-out is {status}")
    raise Stop(f"the roll-out is {status}: {refresh.get('StatusReason', 'no reason given')}\n{failures(region)}{ADVICE.get(status, '')}")


ADVICE = {
    "Failed": "Hosts may be old and new beside each other: roll out the image before, or mend the image and roll that out.",
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
    region = Region(options.region, options.group)
    if options.image:
        identity = start(region, options.image, options.without_alarms, options.dry_run)
        return identity and follow(region, identity)
    running = region.active()
    identity = running["InstanceRefreshId"]
    if options.follow:
        return follow(region, identity)
    if options.dry_run:
        return say(f"would {'cancel' if options.cancel else 'roll back'} {identity}, which is {running['Status']}")
    if options.cancel:
        region.scaling.cancel_instance_refresh(AutoScalingGroupName=region.group)
        return follow(region, identity, ("Cancelled",))
    region.scaling.rollback_instance_refresh(AutoScalingGroupName=region.group)
    return follow(region, identity, ("RollbackSuccessful",))


if __name__ == "__main__":
    terminal.main(main, "ami/roll-out", "no longer followed; it goes on in the cloud: --follow looks at it, --cancel or --rollback ends it")
