"""How the tests judge a run, and what was published."""

import json


def red(ended, said):
    """Stopped, by one sentence."""
    assert "failure" in ended.jobs.values(), ended.log[-3000:]
    assert said in ended.log, ended.log[-3000:]


def green(ended):
    assert ended.green, ended.log[-6000:]


def stored(place, name, default=None):
    file = place.state / name
    return json.loads(file.read_text()) if file.exists() else default
