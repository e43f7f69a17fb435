mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }

  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
}

mock_provider "aws" {
  alias = "b"

  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
}

run "each_region_keeps_its_own_state" {
  command = plan

  assert {
    condition     = output.primary == "bucket = \"dob-api-state-123456789012-eu-west-1\"\nregion = \"eu-west-1\"\n"
    error_message = "the primary region's state is elsewhere"
  }

  assert {
    condition     = output.failover == "bucket = \"dob-api-state-123456789012-eu-central-1\"\nregion = \"eu-central-1\"\n"
    error_message = "the failover region's state is elsewhere"
  }

  assert {
    condition     = output.global == output.failover
    error_message = "the global state is lost with the primary region"
  }
}
