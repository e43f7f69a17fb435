"""A fact that has to stand in several files says the same in each of them."""

import re

import pytest
import yaml

from conftest import TOP, tracked
from tools.regions import NAMES


def text(path):
    return (TOP / path).read_text()


def settings():
    """The service's settings as its code defines them: name → (default, range)."""
    table = [[cell.strip() for cell in line.split("|")] for line in text("src/config/settings.txt").splitlines()]
    return {name: (default, bounds) for name, _, default, bounds, _ in table}


SETTINGS = settings()


def plain(roff):
    """A page's text without its typography."""
    return re.sub(r"\\f[A-Z]", "", roff).replace(r"\-", "-")


def test_the_code_defines_settings():
    assert SETTINGS["DOB_API_KEEP_ALIVE"] == ("75s", "1s to 24h")
    assert SETTINGS["RUST_LOG"] == ("info", "")


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_is_the_same_in_its_page(name):
    default, bounds = SETTINGS[name]
    [(shown, meaning)] = re.findall(rf"^\| `{name}` \| (.*?) ?\| (.*) \|$", text("docs/configuration.md"), re.M)
    # The page may explain where no default is written down.
    assert shown == default or (not default and shown.startswith("`"))
    assert not bounds or meaning.endswith(f"; {bounds}")


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_is_the_same_in_the_manual(name):
    default, bounds = SETTINGS[name]
    [entry] = re.findall(rf"^--\S+ \w+, {name}\n(.*?)^\.TP", plain(text("packaging/dob-api.8")), re.M | re.S)
    assert not default or f"({default})" in entry
    assert not bounds or f"({default}), {bounds}." in entry


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_is_the_same_in_the_settings_file_of_the_package(name):
    default, _ = SETTINGS[name]
    shown = re.findall(rf"^#{name}=(.*)$", text("packaging/debian/dob-api.default"), re.M)
    # Every user may read the file, so a secret is not set there but its file.
    assert len(shown) == (f"{name}_FILE" not in SETTINGS)
    # Where the code has no default, the package may have one of its own.
    assert not default or shown == [default]


@pytest.mark.parametrize("path", ["README.md", "docs/configuration.md", "packaging/dob-api.8", "packaging/debian/dob-api.default"])
def test_no_other_setting_is_named(path):
    named = set(re.findall(r"\b(?:DOB_API|DATABASE)_[A-Z_]*[A-Z]\b", plain(text(path))))
    # What `dob-api write-secrets` reads is no setting of the service.
    handed = set(re.findall(r'"(DATABASE_[A-Z]+)", "', text("src/secrets.rs")))
    assert named - SETTINGS.keys() - handed == set()


GIVERS = ["ansible/roles/service/templates/dob-api.j2", "terraform/modules/region/service.tf", "terraform/modules/region/ecs.tf"]


@pytest.mark.parametrize("path", GIVERS)
def test_hosts_and_tasks_are_given_settings_that_exist(path):
    given = set(re.findall(r"^\s*((?:DOB_API|DATABASE)_[A-Z_]+) *=", text(path), re.M))
    # What the image reads itself, and does not hand on.
    image = set(re.findall(r"^\s*(DOB_API_[A-Z]+)=\*\)", text("ami/root/usr/libexec/dob-api-settings"), re.M))
    assert given
    assert given - SETTINGS.keys() - image == set()


def task(name):
    """A task of the role that creates the service's database."""
    tasks = yaml.safe_load(text("ansible/roles/service_database/tasks/main.yml"))
    return next(task for task in tasks if task["name"] == name)


def test_the_playbook_creates_the_table_that_the_service_would():
    code = re.search(r'CREATE TABLE IF NOT EXISTS users \((.*?)\n\) WITH \((.*?)\)"', text("src/store/postgres/table.rs"), re.S)
    columns = [line.strip().rstrip(",").replace(r"\"", '"') for line in code[1].splitlines() if line.strip()]
    table = task("Create the table users")["community.postgresql.postgresql_table"]
    assert table["columns"] == columns
    assert table["storage_params"] == [code[2].replace(" ", "")]


def test_the_playbook_grants_what_the_service_would():
    code = text("src/store/postgres/provision.rs")
    [privileges] = re.findall(r"GRANT ([A-Z, ]+) ON users TO", code)
    granted = {item["type"]: item["privileges"] for item in task("Grant the role what the service needs")["loop"]}
    assert granted == {"database": "CONNECT", "table": privileges.replace(" ", "")}
    # What the service tells an operator who did neither.
    assert f"grant {' and '.join(privileges.rsplit(', ', 1))} on the table users" in text("src/store/postgres/error.rs")


# What ansible/group_vars says runs, and the next one, which the page of the major upgrade needs for its example.
[RUNNING] = map(int, re.findall(r"default\((\d+)\)", text("ansible/group_vars/all/main.yml")))
# How a page may name a major version: as a word, a package, a path, a setting.
VERSIONS = re.compile(r"(?:PostgreSQL |postgresql-|/postgresql/|postgresql_versions: \{\w: |goes from |goes from \d+ to )(\d{2})\b")


def test_the_major_version_of_postgresql_stands_once():
    # Records of runs and the upgrade's own test name what they ran with.
    literal = re.compile(rf"postgresql[-/]{RUNNING}\b|/{RUNNING}/|pg_\w+cluster {RUNNING}\b")
    exempt = re.compile(r"docs/(faults|pairs|reliability|speed)\.md|.*test_version\.py|.*test_facts\.py")
    written = {path for path in tracked("*") if path.is_file() and path.suffix in ("", ".md", ".py", ".yml", ".sh", ".j2")}
    paths = {str(path.relative_to(TOP)) for path in written}
    found = {path for path in paths if not exempt.fullmatch(path) and literal.search(text(path))}
    assert found == set()


@pytest.mark.parametrize("path", sorted(str(path.relative_to(TOP)) for path in tracked(".github/workflows/*.yml")))
def test_a_workflow_names_no_region_but_those_of_the_project(path):
    # A workflow cannot read a file before its first step, so it names the cloud's regions itself.
    assert set(re.findall(r"\b[a-z]{2}(?:-[a-z]+)+-\d\b", text(path))) <= set(NAMES.values())
    chosen = re.findall(r"region == '(\w)' && '([\w-]+)' \|\| '([\w-]+)'", text(path))
    assert chosen == [("a", NAMES["a"], NAMES["b"])] * len(chosen)


@pytest.mark.parametrize("page", [str(path.relative_to(TOP)) for path in tracked("docs/runbooks/*.md")])
def test_a_runbook_names_no_major_version_but_those_of_the_example(page):
    found = [int(version) for version in VERSIONS.findall(text(page))]
    # It goes from the version that runs to the one behind it; each other page says VERSION.
    assert set(found) == ({RUNNING, RUNNING + 1} if page.endswith("/major-upgrade.md") else set())
