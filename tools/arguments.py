"""The command line of a task in Python, like lib.sh's `wrong` and `understood` for scripts."""

import argparse
import os
import sys


class Parser(argparse.ArgumentParser):
    """Reports a wrong argument in one sentence, and exits with 64."""

    def __init__(self, **options):
        super().__init__(**{"allow_abbrev": False} | options)

    def error(self, message):
        self.exit(64, f"{self.prog}: {' '.join(message.split())}; see --help\n")

    def parse_args(self, *arguments):
        parsed = super().parse_args(*arguments)
        # A caller that only checks the arguments learns the result from this code.
        if code := os.environ.get("ARGUMENTS_ONLY"):
            sys.exit(int(code))
        return parsed
