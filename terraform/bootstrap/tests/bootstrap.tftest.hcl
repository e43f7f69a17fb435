mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }

  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
}

run "the_other_roots_are_told_where_their_state_is" {
  command = plan

  assert {
    condition     = strcontains(output.backend, "bucket = \"dob-api-state-123456789012\"\nregion = \"eu-west-1\"\n")
    error_message = "the other roots are told otherwise"
  }
}

run "a_region_that_is_a_zone_is_refused" {
  command         = plan
  expect_failures = [var.region]

  variables {
    region = "eu-west-1a"
  }
}
