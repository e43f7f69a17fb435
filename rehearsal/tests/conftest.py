"""What the tests share: the host, the cloud and GitHub, on which the story runs once, in its order."""

import pytest

from rehearsal.place import Place
from rehearsal.regions import Account


@pytest.fixture(scope="session")
def place():
    with Place() as made:
        yield made


@pytest.fixture(scope="session")
def account(place):
    return Account(place).make()
