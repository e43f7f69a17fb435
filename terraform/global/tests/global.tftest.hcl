mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
}

mock_provider "aws" {
  alias           = "b"
  override_during = plan

  mock_resource "aws_acm_certificate" {
    defaults = {
      domain_validation_options = [{
        domain_name           = "api.dob.example.com"
        resource_record_name  = "_1.api.dob.example.com."
        resource_record_type  = "CNAME"
        resource_record_value = "_2.acm-validations.aws."
      }]
    }
  }
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

# Destroying a region then leaves the record by which the other renews its certificate.
run "the_record_that_validates_the_public_name_belongs_to_no_region" {
  command = plan

  assert {
    condition     = aws_acm_certificate.this.domain_name == "api.dob.example.com" && aws_acm_certificate.this.validation_method == "DNS"
    error_message = "another name is validated"
  }

  assert {
    condition     = aws_route53_record.validation.name == "_1.api.dob.example.com." && aws_route53_record.validation.records == toset(["_2.acm-validations.aws."])
    error_message = "the record is another one than the certificate asks for"
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
