# Buckets for the states of the other roots: one in each region, so that a region's state is available while the other
# region is down. A lock is a file beside the state.

module "regions" {
  source = "../modules/regions"
}

locals {
  regions = module.regions.all
  name    = "dob-api-state-${data.aws_caller_identity.this.account_id}"
  tags    = { Project = "dob-api" }
}

provider "aws" {
  region = local.regions.a.region

  default_tags {
    tags = local.tags
  }
}

provider "aws" {
  alias  = "b"
  region = local.regions.b.region

  default_tags {
    tags = local.tags
  }
}

data "aws_caller_identity" "this" {}

module "state_a" {
  source = "../modules/bucket"
  name   = "${local.name}-${local.regions.a.region}"
}

module "state_b" {
  source    = "../modules/bucket"
  providers = { aws = aws.b }
  name      = "${local.name}-${local.regions.b.region}"
}
