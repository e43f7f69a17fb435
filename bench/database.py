"""A private PostgreSQL with any number of users, as durable as in production."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.processes import Failure, cpu_seconds, free_port, running, wait_until

SETTINGS = """
listen_addresses = '127.0.0.1'
max_connections = 400
shared_buffers = '1GB'
fsync = on
synchronous_commit = on
max_wal_size = '4GB'
checkpoint_timeout = '30min'
autovacuum = off
"""

ACCESS = "local all all trust\nhost all all 127.0.0.1/32 trust\n"

# Both tables have the service's shape and as many rows. Its names have only letters, and pgbench can make only
# numbers, so pgbench reads names of as many digits.
FILL = """
CREATE TABLE {table} (username text COLLATE "C" PRIMARY KEY, date_of_birth date NOT NULL);
INSERT INTO {table} SELECT {name}, date '1930-01-01' + n % 30000 FROM generate_series(0, {users} - 1) AS n;
VACUUM (FREEZE, ANALYZE) {table};
"""
LETTERS = "translate(lpad(n::text, 7, '0'), '0123456789', 'abcdefghij')"
DIGITS = "(n + 10000000)::text"


class Database:
    """One running server."""

    def __init__(self, folder: Path, pid: int, port: int, programs: Path) -> None:
        self.folder, self.pid, self.port, self.programs = folder, pid, port, programs

    def url(self, database: str = "bench", port: int | None = None) -> str:
        return f"postgres://postgres@127.0.0.1:{port or self.port}/{database}?sslmode=disable"

    def sql(self, text: str, database: str = "bench") -> str:
        """Runs statements, and returns their output."""
        command = ["psql", "-X", "-v", "ON_ERROR_STOP=1", "-qAt", self.url(database)]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failure(f"PostgreSQL refused: {done.stderr.strip()}")
        return done.stdout.strip()

    def fill(self, users: int, database: str = "bench", *, pgbench: bool = True) -> None:
        """A database with this many users, and as many for pgbench."""
        self.sql(f"CREATE DATABASE {database}", "postgres")
        self.sql(FILL.format(table="users", name=LETTERS, users=users), database)
        if pgbench:
            self.sql(FILL.format(table="digits", name=DIGITS, users=users), database)
        self.sql("CHECKPOINT", database)

    def tidy(self) -> None:
        """Vacuums between rounds, so that no round pays for the previous one."""
        self.sql("VACUUM users; VACUUM digits; CHECKPOINT")

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.pid)


@contextlib.contextmanager
def server() -> Iterator[Database]:
    """A new server; it and its data are removed after the block."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    if not versions:
        raise Failure("PostgreSQL is not installed: run ./dev need postgresql")
    programs = versions[-1].parent
    # /var/tmp is on a disk, so an fsync has its real cost.
    folder = Path(tempfile.mkdtemp(prefix="dob-api-bench-", dir="/var/tmp"))
    user = "postgres" if os.getuid() == 0 else None
    try:
        if user:
            shutil.chown(folder, user, user)
        data, log, port = folder / "data", folder / "log", free_port()
        initdb = [str(programs / "initdb"), "--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8", "--pgdata", str(data)]
        with running(initdb, folder / "initdb.log", user=user) as process:
            if process.wait() != 0:
                raise Failure(f"initdb failed: {(folder / 'initdb.log').read_text()[-500:]}")
        with (data / "postgresql.conf").open("a") as settings:
            settings.write(f"{SETTINGS}port = {port}\nunix_socket_directories = '{folder}'\n")
        (data / "pg_hba.conf").write_text(ACCESS)
        with running([str(programs / "postgres"), "-D", str(data)], log, user=user, ends_by=signal.SIGQUIT) as process:
            database = Database(folder, process.pid, port, programs)
            ready = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
            wait_until(lambda: subprocess.run(ready, check=False).returncode == 0, process, "PostgreSQL", log)
            yield database
    finally:
        shutil.rmtree(folder, ignore_errors=True)
