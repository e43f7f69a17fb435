# Resources of no region: the public zone and its failover, the key of both regions, and the roles of the workflows.

module "regions" {
  source = "../modules/regions"
}

locals {
  regions = module.regions.all
  tags    = { Project = "dob-api" }
  account = data.aws_caller_identity.this.account_id
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
