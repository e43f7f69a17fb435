# The bucket that holds the state of the other roots. A lock is a file beside the state.

provider "aws" {
  region = var.region

  default_tags {
    tags = { Project = "dob-api" }
  }
}

data "aws_caller_identity" "this" {}

module "state" {
  source = "../modules/bucket"
  name   = "dob-api-state-${data.aws_caller_identity.this.account_id}"
}
