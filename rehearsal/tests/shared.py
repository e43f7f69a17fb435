"""How the tests judge a run, and what was published."""

import json


def red(ended, said):
    """Stopped, by one sentence: the last line of the step that failed."""
    assert "failure" in ended.jobs.values(), ended.log[-3000:]
    assert [line for line in ended.failed if said in line], ended.said[-3000:]


def green(ended):
    assert ended.green, ended.log[-3000:] + ended.said[-3000:]


def stored(place, name, default=None):
    file = place.state / name
    return json.loads(file.read_text()) if file.exists() else default
