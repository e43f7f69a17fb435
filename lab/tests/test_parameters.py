"""Parameters of PostgreSQL that site refuses before anything changes, as this machine's PostgreSQL says; and those that sizes of hosts lead to."""

import pathlib

import pytest

from test_host_look import ansible

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
