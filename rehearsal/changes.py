"""What a part of the story changed in the cloud and on GitHub, in sentences."""

import collections
import json
import re

from rehearsal.regions import REGIONS


def stored(place, name):
    file = place.state / name
    return json.loads(file.read_text()) if file.exists() else []


def seen(place, account):
    """What a person would look at: a list of sentences about what is there, each as often as it is there."""
    found = []
    for comment in stored(place, "comments.json"):
        total = re.search(r"^(Plan: .*|No changes\..*)$", comment["body"], re.M)
        found.append(f"comment on the pull request: {comment['body'].splitlines()[1].strip('# ')}: {total[1] if total else 'no sum'}")
    for release in stored(place, "releases.json"):
        containers = re.findall(r"ghcr\.io/\S+@sha256:[0-9a-f]{12}", release["body"] or "")
        kind, files = "draft" if release["draft"] else "release", f"{len(release['assets'])} files"
        found.append(f"{kind} {release['tag_name']}: {', '.join([files, *(f'{name}…' for name in dict.fromkeys(containers))])}")
    subjects = {name for one in stored(place, "attestations.json") for name in one["subjects"]}
    found += [f"{len(subjects)} files and containers are attested"] if subjects else []
    for one in stored(place, "started.json"):
        found.append(f"started, and waits for approval: {one['workflow'].rpartition('/')[2]} {one['inputs']}")
    for line in (place.state / "played").read_text().splitlines():
        found.append(f"played: {line}")
    for letter, region in REGIONS.items():
        if account.lost() and letter == "a":
            found.append(f"{region} is lost")
            continue
        names = {one["ImageId"]: name for name, one in account.images(region).items()}
        for name in names.values():
            found.append(f"{region} has the image {name}")
        for image, count in collections.Counter(account.running(letter)).items():
            found.append(f"{region} runs {count} hosts of {names.get(image, image)}")
        found += [f"{region}: its database hosts are {state}" for state in sorted(account.states(letter))]
    return found


def between(before, after):
    """The sentences that are new."""
    return list((collections.Counter(after) - collections.Counter(before)).elements())
