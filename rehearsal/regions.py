"""What stands in the account before a workflow runs: the roles as Terraform makes them, and of each region what workflows touch.

Terraform makes the states' buckets and the global root, so the roles and their trust are real. Applying both regions takes
minutes and has a suite of its own (infra); here their groups, hosts and parameters are made as that suite proves them to be.
"""

import functools
import json
import subprocess
import urllib.request

import boto3

from lab.hosts import nspawn
from rehearsal.place import ACCOUNT, CLOUD, DOMAIN, SUBJECT, cloud
from tools import regions

REGIONS = regions.NAMES
SECRETS = ("patroni-superuser-password", "patroni-replication-password", "patroni-rewind-password", "database-password")
ALARM = {"MetricName": "HTTPCode_Target_5XX_Count", "Statistic": "Sum", "Period": 60, "EvaluationPeriods": 2, "Threshold": 10.0}


class Account:
    """The account's administrator, who is not held to any policy."""

    def __init__(self, place):
        self.place, self.keys = place, {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        self.client = functools.cache(lambda service, region="eu-west-1": boto3.client(service, region_name=region, endpoint_url=CLOUD, **self.keys))

    def apply(self):
        """The first steps of docs/deploy-aws.md."""
        environment = {"AWS_ENDPOINT_URL": CLOUD, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}
        cloud.run = self.run
        made = cloud.Configuration(self.place.owner.folder / "account", environment)
        for root in cloud.ROOTS:
            (made.top / root / "emulator_override.tf").write_text('provider "aws" {\n  max_retries = 4\n}\n')
        made.infra("apply", "bootstrap", "-auto-approve", "-input=false")
        made.set("global", domain=DOMAIN, repository=SUBJECT)
        made.infra("apply", "global", "-auto-approve", "-input=false")
        return made

    def run(self, *command, cwd=None, env=None, timeout=900, check=True):
        """Runs a command beside the host, which gets the processor as the host does."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": cwd, "env": env}
        process = self.place.host.spawn(*command, **pipes)
        out, error = process.communicate(timeout=timeout)
        if check and process.returncode != 0:
            raise nspawn.Failed(f"{' '.join(map(str, command))}: exit {process.returncode}\n{out[-3000:]}{error[-8000:]}")
        return subprocess.CompletedProcess(command, process.returncode, out, error)

    def make(self, regions=REGIONS):
        """The account with what workflows touch of these regions, from then on held to its policies."""
        applied = self.apply()
        for letter, region in regions.items():
            self.region(letter, region)
        settings = {
            "global": f'domain = "{DOMAIN}"\nrepository = "{SUBJECT}"\n',
            **dict.fromkeys(("primary", "failover"), f'domain = "{DOMAIN}"\nssh_key = "{cloud.KEY}"\nimage = "{cloud.IMAGE}"\n'),
        }
        roots = {root: {"backend": (applied.top / root / "backend.hcl").read_text(), "settings": text} for root, text in settings.items()}
        self.place.variables["TERRAFORM_ROOTS"] = json.dumps(roots)
        self.enforce()
        return self

    def enforce(self):
        """From now on what no policy grants is refused; the administrator gets keys with all rights."""
        iam = self.client("iam")
        iam.create_user(UserName="administrator")
        allowed = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
        iam.put_user_policy(UserName="administrator", PolicyName="all", PolicyDocument=json.dumps(allowed))
        key = iam.create_access_key(UserName="administrator")["AccessKey"]
        self.keys.update(aws_access_key_id=key["AccessKeyId"], aws_secret_access_key=key["SecretAccessKey"])
        self.client.cache_clear()
        urllib.request.urlopen(urllib.request.Request(f"{CLOUD}/moto-api/reset-auth", b"0", {"Content-Type": "text/plain"}))

    def region(self, letter, region):
        ec2, scaling, alarms, ssm = (self.client(service, region) for service in ("ec2", "autoscaling", "cloudwatch", "ssm"))
        s3 = self.client("s3", region)
        s3.create_bucket(Bucket=f"dob-api-apt-{ACCOUNT}-{region}", CreateBucketConfiguration={"LocationConstraint": region})
        group = f"dob-api-{letter}"
        image = cloud.IMAGE
        tags = {"Project": "dob-api", "Role": "service"}
        made = ec2.create_launch_template(
            LaunchTemplateName=group,
            LaunchTemplateData={"ImageId": image, "InstanceType": "t3.micro"},
            TagSpecifications=[tagged("launch-template", tags)],
        )
        scaling.create_auto_scaling_group(
            AutoScalingGroupName=group, MinSize=2, MaxSize=4, AvailabilityZones=[f"{region}a"],
            LaunchTemplate={"LaunchTemplateId": made["LaunchTemplate"]["LaunchTemplateId"], "Version": "1"},
            Tags=[{"Key": key, "Value": value, "PropagateAtLaunch": True} for key, value in tags.items()],
        )  # fmt: skip
        alarms.put_metric_alarm(AlarmName=f"{group}-errors", Namespace="AWS/ApplicationELB", ComparisonOperator="GreaterThanThreshold", **ALARM)
        network = regions.REGIONS[letter]["cidr"].removesuffix(".0.0/16")
        vpc = ec2.create_vpc(CidrBlock=f"{network}.0.0/16", TagSpecifications=[tagged("vpc", {"Project": "dob-api"})])["Vpc"]["VpcId"]
        for number in (1, 2, 3):
            named = {"Project": "dob-api", "Role": "database", "Region": letter, "Name": f"{group}-db{number}"}
            subnet = ec2.create_subnet(VpcId=vpc, CidrBlock=f"{network}.{number}.0/24")["Subnet"]["SubnetId"]
            place = {"SubnetId": subnet, "PrivateIpAddress": f"{network}.{number}.11"}
            ec2.run_instances(ImageId=cloud.DEBIAN, MinCount=1, MaxCount=1, TagSpecifications=[tagged("instance", named)], **place)
        for name in (*SECRETS, "pgbackrest-cipher-a", "pgbackrest-cipher-b"):
            ssm.put_parameter(Name=f"/dob-api/{name}", Value=f"{name}", Type="SecureString")

    def images(self, region):
        """The images of ours in a region, by name."""
        return {
            one["Name"]: one for one in self.client("ec2", region).describe_images(Filters=[{"Name": "tag:Project", "Values": ["dob-api"]}])["Images"]
        }

    def running(self, letter):
        """The images of the service hosts that run in a region."""
        filters = [{"Name": "instance-state-name", "Values": ["running"]}, {"Name": "tag:Role", "Values": ["service"]}]
        pages = self.client("ec2", REGIONS[letter]).describe_instances(Filters=filters)["Reservations"]
        return [host["ImageId"] for page in pages for host in page["Instances"]]

    def states(self, letter):
        filters = [{"Name": "tag:Role", "Values": ["database"]}]
        pages = self.client("ec2", REGIONS[letter]).describe_instances(Filters=filters)["Reservations"]
        return {host["State"]["Name"] for page in pages for host in page["Instances"]}

    def lose(self, letter):
        """The region no longer answers, nor does its cloud interface."""
        (self.place.state / "lost").write_text(REGIONS[letter])

    def lost(self):
        return (self.place.state / "lost").exists()

    def find_again(self):
        (self.place.state / "lost").unlink()

    def calls(self):
        """Who called what and whether it was allowed, once each."""
        file = self.place.state / "calls"
        return {tuple(line.split()) for line in file.read_text().splitlines()} if file.exists() else set()


def tagged(kind, tags):
    return {"ResourceType": kind, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
