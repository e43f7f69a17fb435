"""Whether AWS would allow a request, by the policies of a role: identity policies with their conditions, as AWS documents them.

An explicit refusal wins, and what nothing allows is refused. A key that the request does not have makes a condition false, except for
Null and ForAllValues. An operator that is not known here stops the test, so that no condition is overlooked.
"""

import fnmatch
import re

BRACKETS = re.compile(r"([\[\]])")


def like(patterns, value):
    """AWS knows * and ?, and brackets mean themselves."""
    return any(fnmatch.fnmatchcase(value, BRACKETS.sub(r"[\1]", pattern)) for pattern in patterns)


OPERATORS = {
    "StringEquals": lambda patterns, value: value in patterns,
    "StringLike": like,
    "ArnLike": like,
    "Bool": lambda patterns, value: value.lower() in [pattern.lower() for pattern in patterns],
    "NumericEquals": lambda patterns, value: float(value) in map(float, patterns),
}


def listed(given):
    return given if isinstance(given, list) else [given]


def holds(operator, key, patterns, context):
    """Whether one line of a condition holds for a request."""
    value = context.get(key.lower())
    if operator == "Null":
        return (value is None) == (patterns == ["true"])
    if operator.startswith("ForAllValues:"):
        test = OPERATORS[operator.removeprefix("ForAllValues:")]
        return all(test(patterns, one) for one in listed(value or []))
    return value is not None and OPERATORS[operator](patterns, value)


def speaks_of(statement, action, resource, context):
    """Whether a statement is about a request."""
    lower = action.lower()
    named = like([one.lower() for one in listed(statement.get("Action", statement.get("NotAction")))], lower)
    meant = like(listed(statement.get("Resource", statement.get("NotResource"))), resource)
    return (
        named == ("Action" in statement)
        and meant == ("Resource" in statement)
        and all(
            holds(operator, key, [str(one).lower() if isinstance(one, bool) else str(one) for one in listed(values)], context)
            for operator, keys in statement.get("Condition", {}).items()
            for key, values in keys.items()
        )
    )


def allows(policies, action, resource, context):
    """Whether the policies of a role, as documents, allow an action on a resource; `context` has the values of condition keys."""
    lowered = {key.lower(): value for key, value in context.items()}
    statements = [one for policy in policies for one in listed(policy["Statement"])]
    effects = {one["Effect"] for one in statements if speaks_of(one, action, resource, lowered)}
    return effects == {"Allow"}
