"""A pytest plugin: how each of our pytest suites ends."""

import signal


def pytest_configure():
    # Ended by a runner's time limit, it cleans up as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_runtest_logreport(report):
    # At once, too: a run that is ended before its summary still says what failed.
    if report.failed:
        crash = getattr(report.longrepr, "reprcrash", None)
        message = crash.message if crash else report.longreprtext
        # The reason stands at one end of a long message or at the other.
        shown = message if len(message) < 4000 else f"{message[:500]}\n[…]\n{message[-3500:]}"
        print(f"\nFAILED {report.nodeid} ({report.when}): {shown}")


def pytest_terminal_summary(terminalreporter):
    global counts
    stats = terminalreporter.stats
    counts = len(stats.get("passed", [])), len(stats.get("failed", [])) + len(stats.get("error", []))


def pytest_unconfigure():
    # The last line, which tests/run adds up.
    if "counts" in globals():
        print("{} passed, {} failed".format(*counts))
