"""Which role of the cloud may do what: every pair of `doors.toml`, by the policies that Terraform made."""

import pathlib
import tomllib

import pytest

import cloud
import judge

TABLE = tomllib.loads(pathlib.Path(__file__).with_name("doors.toml").read_text())


def filled(given, names):
    """A door with its names in place."""
    if isinstance(given, str):
        return given.format_map(names)
    return {key: filled(value, names) for key, value in given.items()} if isinstance(given, dict) else [filled(one, names) for one in given]


@pytest.fixture(scope="module")
def doors(applied):
    iam = applied.emulator.client("iam", "us-east-1")
    account = applied.emulator.client("sts", cloud.REGIONS["a"]).get_caller_identity()["Account"]
    aliases = applied.emulator.client("kms", cloud.REGIONS["a"]).list_aliases()["Aliases"]
    (key,) = (one["TargetKeyId"] for one in aliases if one["AliasName"] == "alias/dob-api")
    assert iam.get_role(RoleName="dob-api-a-service")["Role"]["Arn"].split(":")[4] == account
    return filled(TABLE["doors"], {**cloud.REGIONS, "account": account, "key": key})


@pytest.fixture(scope="module")
def policies(applied):
    """The policies of every role of ours, as documents: its own, and AWS's that are attached to it."""
    iam = applied.emulator.client("iam", "us-east-1")

    def documents(role):
        for name in iam.list_role_policies(RoleName=role)["PolicyNames"]:
            yield iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
        for one in iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]:
            version = iam.get_policy(PolicyArn=one["PolicyArn"])["Policy"]["DefaultVersionId"]
            yield iam.get_policy_version(PolicyArn=one["PolicyArn"], VersionId=version)["PolicyVersion"]["Document"]

    names = [one["RoleName"] for one in iam.list_roles(MaxItems=1000)["Roles"] if one["RoleName"].startswith("dob-api-")]
    return {name.removeprefix("dob-api-"): list(documents(name)) for name in names}


def test_the_table_has_every_role_and_no_other(policies):
    """What differs between the regions is the name alone, so the table has the roles of the first."""
    of_b = {name for name in policies if name.startswith("b-")}
    assert policies.keys() - of_b == TABLE["roles"].keys()
    assert of_b == {f"b-{name.removeprefix('a-')}" for name in TABLE["roles"] if name.startswith("a-")}


def opened(role):
    """The doors that a role is to open, by the table."""
    return TABLE["doors"].keys() - set(role["opens_all_but"]) if "opens_all_but" in role else set(role["opens"])


def test_every_door_that_the_table_names_is_there():
    named = {door for role in TABLE["roles"].values() for door in (*role.get("opens", ()), *role.get("opens_all_but", ()))}
    assert named <= TABLE["doors"].keys()


@pytest.mark.parametrize("role", TABLE["roles"])
def test_a_role_opens_its_doors_and_no_other(doors, policies, role):
    found = {name for name, door in doors.items() if judge.allows(policies[role], door["action"], door["resource"], door.get("context", {}))}
    expected = opened(TABLE["roles"][role])
    assert found == expected, f"{role} opens also {sorted(found - expected)}, and not {sorted(expected - found)}"
