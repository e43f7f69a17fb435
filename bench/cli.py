"""`./dev bench`: measures the service against limits and peers, and writes docs/speed.md."""

import argparse
import json
import signal
import sys
import time
from pathlib import Path

from bench import database, report
from bench.contenders import Programs
from bench.machine import Noise, description, first_line
from bench.parts import PARTS, QUICK, Bench, progress
from bench.processes import Failure
from tools.arguments import Parser

USERS = 1_000_000


def arguments() -> argparse.Namespace:
    parser = Parser(
        prog="./dev bench",
        description="Measure the service against limits and peers on a private PostgreSQL with one "
        "million users, in turns. A whole run takes about 20 minutes and writes docs/speed.md with its plots; a part "
        "of it only prints. Leave the machine alone meanwhile: the end says whether it was quiet enough.",
    )
    parser.add_argument("--quick", action="store_true", help="the main ratios only, in under three minutes")
    parser.add_argument("--only", metavar="PART[,PART]", type=parts, help=f"these parts only: {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=None, help="rounds of each part (default 5)")
    parser.add_argument("--seconds", type=int, default=None, help="seconds of each measurement (default 4)")
    parser.add_argument("--report", type=present, metavar="FILE", help="write docs/speed.md again from a run's results")
    parser.add_argument("--service", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--peers", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def parts(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(PARTS):
        raise argparse.ArgumentTypeError(f"there is no part {', '.join(unknown)}; there are: {', '.join(PARTS)}")
    return names


def present(file: str) -> Path:
    if not Path(file).is_file():
        raise argparse.ArgumentTypeError(f"there is no file '{file}': a run says where it left its results")
    return Path(file)


def measure(chosen: argparse.Namespace) -> dict:
    names = chosen.only or (QUICK if chosen.quick else list(PARTS))
    noise, began = Noise(), time.monotonic()
    with database.server() as postgres:
        if set(names) - {"growth"}:
            progress(f"filling PostgreSQL with {USERS:,} users")
            postgres.fill(USERS)
        bench = Bench(
            Programs(chosen.service, chosen.peers),
            postgres,
            noise,
            USERS,
            quick=chosen.quick,
            rounds=chosen.rounds or (2 if chosen.quick else 5),
            seconds=chosen.seconds or (2 if chosen.quick else 4),
        )
        bench.results["binary"] = {"size": [chosen.service.stat().st_size / 1e6]}
        for name in names:
            PARTS[name](bench)
    about = description() | {
        "date": time.strftime("%Y-%m-%d"),
        "minutes": round((time.monotonic() - began) / 60),
        "rounds": bench.rounds,
        "seconds": bench.seconds,
        "command": " ".join(["./dev bench", *sys.argv[5:]]),
        "versions": [
            first_line(str(chosen.service), "--version"),
            first_line("pgbench", "--version"),
            first_line("wrk", "-v"),
            first_line("rustc", "--version"),
            first_line("go", "version"),
        ],
    }
    return {"about": about, "noise": noise.summary(), "results": bench.results}


def main() -> int:
    chosen = arguments()
    # The terminal's Ctrl-C and a supervisor's TERM both unwind, so that servers and their data go.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if chosen.report:
            report.write(json.loads(chosen.report.read_text()))
            return 0
        run = measure(chosen)
        kept = chosen.peers.parent / "results.json"
        kept.write_text(json.dumps(run, indent=1))
        print(report.table(run))
        print(report.noise(run))
        if chosen.only or chosen.quick:
            return 0
        report.write(run)
        progress(f"wrote docs/speed.md and its plots; ./dev bench --report {kept} writes them again")
        return 0
    except KeyboardInterrupt:
        progress("stopped; nothing is left behind")
        return 130
    except Failure as failure:
        progress(str(failure))
        return 1


if __name__ == "__main__":
    sys.exit(main())
