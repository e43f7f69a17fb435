"""What can be said of the configuration without applying it."""

import pathlib
import re
import sys

import pytest

import cloud


def test_the_files_are_formatted(configuration):
    configuration.terraform(".", "fmt", "-check", "-recursive")


@pytest.mark.parametrize("folder", [*cloud.ROOTS, *cloud.MODULES])
def test_a_root_or_module_is_valid(configuration, folder):
    configuration.terraform(folder, "validate")


@pytest.mark.parametrize("folder", ["bootstrap", "global", *cloud.MODULES])
def test_what_is_promised_holds_and_bad_input_is_refused(configuration, folder):
    said = configuration.terraform(folder, "test")
    assert re.search(r"Success! [1-9]\d* passed, 0 failed", said), said


def test_every_refusal_is_tested(configuration):
    for folder in ("global", *cloud.MODULES):
        conditions = (configuration.top / folder / "variables.tf").read_text()
        tested = "".join(path.read_text() for path in (configuration.top / folder / "tests").iterdir())
        refused = {name for name, block in re.findall(r'^variable "(\w+)" \{(.*?)^\}', conditions, re.M | re.S) if "validation" in block}
        assert refused == set(re.findall(r"expect_failures = \[var\.(\w+)\]", tested)), folder


def test_every_setting_has_a_type_and_a_description(configuration):
    for folder in (*cloud.ROOTS, *cloud.MODULES, "modules/regions"):
        text = "".join(path.read_text() for path in (configuration.top / folder).glob("*.tf"))
        blocks = re.findall(r'^(variable|output) "(\w+)" \{(.*?)^\}', text, re.M | re.S)
        assert blocks
        for kind, name, block in blocks:
            assert re.search(r'^  description += ".{10,}"$', block, re.M), (folder, name)
            assert kind == "output" or re.search(r"^  type += ", block, re.M), (folder, name)


def test_all_roots_lock_the_same_provider_and_no_other(configuration):
    locks = {(configuration.top / root / ".terraform.lock.hcl").read_text() for root in cloud.ROOTS}
    assert len(locks) == 1 and re.findall(r'^provider "(.+)"', locks.pop(), re.M) == ["registry.terraform.io/hashicorp/aws"]


def test_the_lock_holds_for_every_platform_that_the_provider_is_made_for(configuration):
    # One archive a platform; the sum of the unpacked one is what a mirror is held against.
    lock = (configuration.top / "primary/.terraform.lock.hcl").read_text()
    assert len(set(re.findall(r'"zh:[0-9a-f]{64}"', lock))) == 15
    assert '"h1:' in lock


def test_both_regions_are_one_module_with_other_parameters(configuration):
    primary, failover = configuration.top / "primary", configuration.top / "failover"
    for name in ("variables.tf", "outputs.tf"):
        assert (primary / name).read_text() == (failover / name).read_text()
    changed = {"The failover region, a standby until it is promoted.": "The primary region, where the databases take writes at first."}
    changed |= {'name = "b"': 'name = "a"', '.all["a"], { name = "a" }': '.all["b"], { name = "b" }', "failover.tfstate": "primary.tfstate"}
    for name in ("main.tf", "versions.tf"):
        text = (failover / name).read_text()
        for old, new in changed.items():
            text = text.replace(old, new, 1)
        assert text == (primary / name).read_text()


def test_checkov_finds_nothing_but_the_justified(configuration):
    checkov = pathlib.Path(sys.executable).parent / "checkov"
    done = cloud.run(
        sys.executable, checkov, "--directory", ".", "--config-file", "tests/checkov.yaml", "--skip-download", cwd=configuration.top, check=False
    )
    assert "Failed to run check" not in done.stderr, done.stderr[-2000:]
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert re.search(r"Passed checks: [1-9]\d\d+, Failed checks: 0", done.stdout), done.stdout[-2000:]


def test_every_exception_of_checkov_has_its_reason(configuration):
    for line in (configuration.top / "tests/checkov.yaml").read_text().splitlines():
        if line.strip().startswith("- CKV"):
            assert re.match(r"  - CKV\w+ # .{20,}", line), line
