mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
}

mock_provider "aws" {
  alias = "b"
}

variables {
  domain     = "dob.example.com"
  repository = "owner/dob-api"
}

run "clients_are_sent_to_the_first_region_while_it_is_healthy" {
  command = plan

  assert {
    condition     = { for region, record in aws_route53_record.api : region => record.failover_routing_policy[0].type } == { a = "PRIMARY", b = "SECONDARY" }
    error_message = "the records do not fail over from a to b"
  }

  assert {
    condition     = alltrue([for check in aws_route53_health_check.this : check.type == "HTTPS" && check.resource_path == "/healthz"])
    error_message = "a region's health is asked for otherwise than by HTTPS at /healthz"
  }
}

run "a_domain_with_capitals_is_refused" {
  command         = plan
  expect_failures = [var.domain]

  variables {
    domain = "Dob.example.com"
  }
}

run "any_repository_of_an_owner_is_refused" {
  command         = plan
  expect_failures = [var.repository]

  variables {
    repository = "owner/*"
  }
}

run "a_repository_is_known_by_its_name_as_older_ones_are" {
  command = plan

  assert {
    condition     = one([for rule in data.aws_iam_policy_document.trust["deploy"].statement[0].condition : toset(rule.values) if endswith(rule.variable, ":sub")]) == toset(["repo:owner/dob-api:environment:deploy"])
    error_message = "the role does not trust the subject of an older repository"
  }
}

run "a_repository_is_known_by_its_numbers_and_until_it_opts_in_by_its_name" {
  command = plan

  variables {
    repository = "owner@1234/dob-api@5678"
  }

  assert {
    condition = one([for rule in data.aws_iam_policy_document.trust["deploy"].statement[0].condition : toset(rule.values) if endswith(rule.variable, ":sub")]) == toset([
      "repo:owner@1234/dob-api@5678:environment:deploy", "repo:owner/dob-api:environment:deploy",
    ])
    error_message = "the role does not trust both forms of the subject"
  }
}

run "a_repository_with_one_number_is_refused" {
  command         = plan
  expect_failures = [var.repository]

  variables {
    repository = "owner@1234/dob-api"
  }
}
