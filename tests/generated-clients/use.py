"""Uses the generated Python client against the service at the given URL, for the given user."""

import datetime
import sys

import dob_client
from dob_client.exceptions import ApiException


def refused(status, call, *arguments, **options):
    """The problem that the call must end with."""
    try:
        call(*arguments, **options)
    except ApiException as error:
        assert error.status == status, error
        return error.data
    raise AssertionError(f"{call.__name__}{arguments} must end with {status}")


def detail(problem):
    assert isinstance(problem, dob_client.Problem) and " " in problem.detail, problem
    return problem.detail


def born(date):
    return dob_client.Person(dateOfBirth=date)


host, user = sys.argv[1:]
api = dob_client.DefaultApi(dob_client.ApiClient(dob_client.Configuration(host=host)))
ada = born(datetime.date(1815, 12, 10))

assert api.health().status == "healthy"
detail(refused(404, api.greet, user))
refused(404, api.check, user)
assert api.save(user, ada) is None
assert api.greet(user).message.startswith(f"Hello, {user}! ")
assert api.check(user) is None
detail(refused(400, api.save, user, born(datetime.date.today() + datetime.timedelta(days=2))))
assert "Content-Encoding" in detail(refused(415, api.save, user, ada, _headers={"Content-Encoding": "gzip"}))
assert "/hello/{username}" in api.describe()["paths"]
