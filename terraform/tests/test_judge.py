"""The judge of requests refuses what AWS refuses."""

import pytest

import judge

BOOK, TAG = "arn:aws:s3:::books/1", "aws:ResourceTag/Role"
READ = {"Effect": "Allow", "Action": "s3:Get*", "Resource": "arn:aws:s3:::books/*"}
NO_SECRETS = {"Effect": "Deny", "Action": ["s3:*"], "NotResource": ["arn:aws:s3:::books/open/*"]}


def when(operator, key, values):
    return READ | {"Condition": {operator: {key: values}}}


@pytest.mark.parametrize(
    ("statements", "action", "resource", "context", "allowed"),
    [
        ([READ], "s3:GetObject", "arn:aws:s3:::books/one", {}, True),
        (READ, "S3:getobject", "arn:aws:s3:::books/one", {}, True),
        ([READ], "s3:PutObject", "arn:aws:s3:::books/one", {}, False),
        ([READ], "s3:GetObject", "arn:aws:s3:::papers/one", {}, False),
        ([READ], "s3:GetObject", "arn:aws:s3:::BOOKS/one", {}, False),
        ([], "s3:GetObject", "arn:aws:s3:::books/one", {}, False),
        ([READ, NO_SECRETS], "s3:GetObject", "arn:aws:s3:::books/one", {}, False),
        ([READ, NO_SECRETS], "s3:GetObject", "arn:aws:s3:::books/open/one", {}, True),
        ([{"Effect": "Allow", "NotAction": ["iam:*"], "Resource": "*"}], "iam:PassRole", "arn", {}, False),
        ([{"Effect": "Allow", "NotAction": ["iam:*"], "Resource": "*"}], "s3:GetObject", "arn", {}, True),
        ([when("StringEquals", TAG, "service")], "s3:GetObject", BOOK, {TAG: "service"}, True),
        ([when("StringEquals", TAG, "service")], "s3:GetObject", BOOK, {TAG: "Service"}, False),
        ([when("StringEquals", TAG, "service")], "s3:GetObject", BOOK, {}, False),
        ([when("StringLike", "kms:ViaService", ["s3.*"])], "s3:GetObject", BOOK, {"kms:ViaService": "ssm.x"}, False),
        ([when("Bool", "k", True)], "s3:GetObject", BOOK, {"k": "true"}, True),
        ([when("Bool", "k", "true")], "s3:GetObject", BOOK, {"k": "false"}, False),
        ([when("NumericEquals", "k", "22")], "s3:GetObject", BOOK, {"k": "5432"}, False),
        ([when("Null", "k", "true")], "s3:GetObject", BOOK, {}, True),
        ([when("Null", "k", "true")], "s3:GetObject", BOOK, {"k": "v"}, False),
        ([when("ForAllValues:StringEquals", "k", ["a", "b"])], "s3:GetObject", BOOK, {"k": ["a", "c"]}, False),
        ([when("ForAllValues:StringEquals", "k", ["a", "b"])], "s3:GetObject", BOOK, {}, True),
    ],
)
def test_a_request_is_judged_as_aws_documents_it(statements, action, resource, context, allowed):
    assert judge.allows([{"Statement": statements}], action, resource, context) is allowed


def test_an_unknown_operator_stops_the_test():
    with pytest.raises(KeyError, match="IpAddress"):
        judge.allows([{"Statement": when("IpAddress", "k", "10.0.0.0/8")}], "s3:GetObject", BOOK, {"k": "10.0.0.1"})
