"""Parameters of PostgreSQL that site refuses before anything changes, as this machine's PostgreSQL says; and those that sizes of hosts lead to."""

import json
import pathlib
import re

import pytest

from test_host_look import ansible
from tools import TOP

PROGRAMS = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))[-1]
SIZE = {"memory_mb": "4000", "processors": "4", "volume_mb": "100000"}
# Sets of parameters by the names of the hosts that are given them, and what is said.
SETS = {
    "none": ({}, None),
    "good": ({"work_mem": "32MB", "log_min_duration_statement": 250, "pg_stat_statements.max": 1000, "log_line_prefix": "%m 'x' "}, None),
    "unknown": ({"work_men": "32MB"}, 'work_men: unrecognized configuration parameter "work_men"'),
    "unit": ({"work_mem": "32XB"}, 'work_mem: invalid value for parameter "work_mem": "32XB"'),
    "choice": ({"huge_pages": "maybe"}, "Available values: off, on, try"),
    "fixed": ({"block_size": 4096}, 'block_size: parameter "block_size" cannot be changed'),
    "huge": ({"shared_buffers": "3GB"}, "shared_buffers: 3GB is more than 60 % of the memory, 4000 MB"),
    "library": ({"shared_preload_libraries": "pg_stat_statements, nowhere"}, "shared_preload_libraries: there is no library nowhere"),
    "extension": ({"pg_stat_statement.max": 5}, "pg_stat_statement.max: no library pg_stat_statement is loaded"),
    "two": ({"work_mem": "x", "nothing": 1}, 'nothing: unrecognized configuration parameter "nothing"'),
    "promise": (
        {"archive_command": "true", "wal_level": "minimal"},
        "postgresql_parameters has archive_command, wal_level, and the playbooks set",
    ),
    "patroni": ({"fsync": "off"}, "postgresql_parameters has fsync"),
    "list": ({"search_path": ["a", "b"]}, "search_path in postgresql_parameters must be a text or a number on one line"),
    "lines": ({"work_mem": "4MB\nfsync=off"}, "work_mem in postgresql_parameters must be a text or a number on one line"),
}


def run(folder, tasks, hosts, *extra):
    common = {"region": "a", "region_databases": ["host"], "other_databases": [], "address": "10.0.0.1"}
    common |= {"pgbackrest_repositories": {}, "pgbackrest_stanzas": ["a"], "postgresql_binaries": str(PROGRAMS)}
    hosts = {"database": {"hosts": {name: common | {"region_databases": [name], **own} for name, own in hosts.items()}}}
    return ansible(folder, hosts, "patroni", tasks, *extra)


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    hosts = {name: {"base_host": SIZE, "postgresql_parameters": parameters} for name, (parameters, _) in SETS.items()}
    return run(tmp_path_factory.mktemp("judged"), "parameters", hosts)


@pytest.mark.parametrize("name", SETS)
def test_a_parameter_that_postgresql_does_not_take_is_refused_with_its_reason(judged, name):
    sentence = SETS[name][1]
    assert (f"{name} | FAILED!" in judged) == (sentence is not None), judged
    assert sentence is None or sentence in judged.replace('\\"', '"'), judged


# Memory in MB, processors and the volume in MB, and what follows from them; the last region has hosts of two sizes.
SIZES = {
    "smallest": ([(900, 1, 8000)], {"shared_buffers": "225MB", "work_mem": "4MB", "max_wal_size": "1024MB", "max_parallel_workers": 2}),
    "middle": ([(8000, 2, 100000)], {"shared_buffers": "2000MB", "effective_cache_size": "6000MB", "work_mem": "20MB", "max_wal_size": "6250MB"}),
    "large": ([(128000, 32, 2000000)], {"maintenance_work_mem": "2048MB", "max_wal_size": "8192MB", "max_parallel_workers_per_gather": 4}),
    "mixed": ([(8000, 2, 100000), (4000, 4, 100000)], {"shared_buffers": "1000MB", "max_parallel_workers": 2}),
}


def test_defaults_follow_the_smallest_host_of_a_region(tmp_path):
    hosts = {}
    for name, (sizes, _) in SIZES.items():
        members = [f"{name}{number}" for number in range(len(sizes))]
        for member, size in zip(members, sizes, strict=True):
            host = dict(zip(("memory_mb", "processors", "volume_mb"), map(str, size), strict=True))
            hosts[member] = {"region_databases": members, "base_host": host}
    role = TOP / "ansible/roles/patroni"
    extra = ("-e", f"@{role}/defaults/main.yml", "-e", f"@{role}/vars/main.yml")
    said = ansible(tmp_path, {"database": {"hosts": hosts}}, None, None, *extra, module=("-m", "ansible.builtin.debug", "-a", "var=patroni_derived"))
    for name, (sizes, wanted) in SIZES.items():
        for number in range(len(sizes)):
            told = json.loads(re.search(rf'{name}{number} \| SUCCESS => ({{ "changed": false, )?{{? ?"patroni_derived": ({{.*?}})', said)[2])
            assert {key: told[key] for key in wanted} == wanted, said
