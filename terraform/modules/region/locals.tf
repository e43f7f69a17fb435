data "aws_caller_identity" "this" {}
data "aws_region" "this" {}
data "aws_partition" "this" {}

# Named, so that a zone that the cloud adds moves nothing.
data "aws_availability_zones" "this" {
  filter {
    name   = "zone-name"
    values = [for letter in ["a", "b", "c"] : "${data.aws_region.this.name}${letter}"]
  }
}

# One key with the same material in both regions, made by the global root.
data "aws_kms_key" "this" {
  key_id = "alias/dob-api"
}

locals {
  project = "dob-api"
  prefix  = "${local.project}-${var.name}"
  account = data.aws_caller_identity.this.account_id
  region  = data.aws_region.this.name
  arn     = "arn:${data.aws_partition.this.partition}"
  key_arn = data.aws_kms_key.this.arn
  peered  = var.peering != null

  tags = { Project = local.project, Region = var.name }

  sizes = {
    small  = { hosts = [2, 6], database_volume = 20, service = "micro", database = "small", monitoring = "micro" }
    medium = { hosts = [3, 12], database_volume = 100, service = "small", database = "large", monitoring = "small" }
    large  = { hosts = [6, 30], database_volume = 500, service = "medium", database = "2xlarge", monitoring = "medium" }
  }
  size = local.sizes[var.size]

  families = {
    x86_64 = { burst = "t3", steady = "m6i" }
    arm64  = { burst = "t4g", steady = "m6g" }
  }
  family = local.families[var.architecture]
  types = {
    service    = "${local.family.burst}.${local.size.service}"
    monitoring = "${local.family.burst}.${local.size.monitoring}"
    database   = "${var.size == "small" ? local.family.burst : local.family.steady}.${local.size.database}"
  }
}
