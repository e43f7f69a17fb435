"""`./dev rehearse`: the parts of the story one after the other, each job as it ended."""

import sys
import time

from lab.hosts import nspawn
from rehearsal import story
from rehearsal.place import Place
from rehearsal.regions import Account

PARTS = ("change", "plan", "apply", "release", "deploy", "updates", "database", "drill", "failover", "failback")


def play(place, account, part):
    """Runs a part, with what happens to the cloud before and after it."""
    if part == "failover":
        account.lose("a")
        # Its interface is lost with the region: nothing can prove that its hosts are off, so a person says so.
        return story.failover(place, "b", override="the region is lost, says the operator on call")
    if part == "failback":
        if account.lost():
            account.find_again()
        return story.failback(place, "a")
    return getattr(story, part)(place)


def main(parts):
    green = True
    with Place() as place:
        account = Account(place).make()
        for part in parts or PARTS:
            begun = time.monotonic()
            ended = play(place, account, part)
            green = green and ended.green
            for job, result in ended.jobs.items():
                print(f"{part}: {job}: {result}", flush=True)
            print(f"{part}: {'green' if ended.green else 'RED'} after {time.monotonic() - begun:.0f} s", flush=True)
            if not ended.green:
                print(ended.log, file=sys.stderr)
                break
    return 0 if green else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (nspawn.Failed, TimeoutError) as error:
        sys.exit(f"rehearse: {error}")
