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
