"""What the person at the terminal sees: progress on one line, errors in one sentence."""

import sys
import time


class Stop(Exception):
    """The reason for a failure, and what to do next."""


def say(text):
    """For the reader; results alone go to standard output."""
    print(text, file=sys.stderr, flush=True)


class Progress:
    """A line that is redrawn on a terminal; in a log, one line per important change."""

    def __init__(self, title):
        self.title, self.drawn, self.percent, self.tail = title, 0.0, -1, ""

    def show(self, percent, tail):
        now = time.monotonic()
        if sys.stderr.isatty():
            if now - self.drawn > 0.1 or percent == 100:
                bar = "#" * (percent * 30 // 100)
                sys.stderr.write(f"\r\033[K{self.title} [{bar:<30}] {percent:3} % {tail}")
                sys.stderr.flush()
                self.drawn = now
        elif percent // 10 != self.percent // 10 or (tail != self.tail and percent == self.percent):
            say(f"{self.title} {percent} % {tail}")
        self.percent, self.tail = percent, tail

    def end(self):
        if sys.stderr.isatty() and self.percent >= 0:
            sys.stderr.write("\n")


def main(command, program, interrupted):
    """Runs a command, and turns what ends it into one sentence and an exit code."""
    try:
        command()
    except Stop as stop:
        say(f"{program}: {stop}")
        sys.exit(1)
    except KeyboardInterrupt:
        say(f"\n{program}: {interrupted}")
        sys.exit(130)
    except Exception as error:
        # The client of the cloud is not there yet when only help is asked for.
        if not isinstance(error, OSError) and not type(error).__module__.startswith(("botocore", "boto3")):
            raise
        say(f"{program}: {error}")
        sys.exit(1)
