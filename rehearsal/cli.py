"""`./dev rehearse`: the parts of the story one after the other. Prints each job when it ends, and what each part changed."""

import re
import sys
import time

from lab.hosts import nspawn
from rehearsal import changes, story
from rehearsal.place import Place
from rehearsal.regions import Account

PARTS = {
    "change": "A pull request is opened: every suite, the packages, and the gate.",
    "plan": "The pull request gets a plan of each root.",
    "apply": "It is merged, and a person applies the root global.",
    "release": "A version is tagged.",
    "deploy": "A person deploys the version to both regions.",
    "updates": "At night Debian has a newer package.",
    "database": "A person runs the playbook site on the database hosts.",
    "drill": "At night the newest backups are restored.",
    "failover": "Region a is lost with its cloud interface, and a person promotes region b.",
    "failback": "Region a is back, and a person moves the primary there.",
}
LAST = 30


def play(place, account, part):
    """Runs a part, with what happens to the cloud before it."""
    if part == "updates":
        (place.state / "debian").write_text("openssl 3.5.1-1+deb13u1\n")
    if part == "failover":
        account.lose("a")
        # Its interface is lost with the region: nothing can prove that its hosts are off, so a person says so.
        return story.failover(place, "b", override="the region is lost, says the operator on call")
    if part == "failback":
        if account.lost():
            account.find_again()
        return story.failback(place, "a")
    return getattr(story, part)(place)


def show(name, result, seconds):
    """One line for a job; act names it `workflow/job`, and numbers the jobs of a matrix."""
    job = re.sub(r"^.*?/|-\d+$", "", name.strip())
    print(f"  {'ok' if result == 'success' else result:<9}{job:<28}{seconds:5.0f} s", flush=True)


def main(parts):
    green, begun = [], time.monotonic()
    print("The account: an administrator applies the roots bootstrap and global; from then on IAM is enforced.", flush=True)
    with Place() as place:
        account, place.tell = Account(place).make(), show
        for part in parts or PARTS:
            before = changes.seen(place, account)
            print(f"\n{part}: {PARTS[part]}", flush=True)
            ended = play(place, account, part)
            for line in changes.between(before, changes.seen(place, account)):
                print(f"  ->  {line}")
            if not ended.green:
                print(f"  {part} is RED: {'; '.join(ended.failed) or 'a job did not run to its end'}", flush=True)
                print("\n".join([*ended.log.splitlines()[-LAST:], *ended.said.splitlines()[-LAST:]]), file=sys.stderr)
                break
            green.append(part)
    print(f"\n{len(green)} of {len(parts or PARTS)} parts are green, after {time.monotonic() - begun:.0f} s.")
    return 0 if len(green) == len(parts or PARTS) else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (nspawn.Failed, TimeoutError) as error:
        sys.exit(f"rehearse: {error}")
