data "aws_caller_identity" "this" {}
data "aws_region" "this" {}
data "aws_partition" "this" {}

# Named explicitly, so that a new zone of the cloud moves nothing.
data "aws_availability_zones" "this" {
  filter {
    name   = "zone-name"
    values = [for letter in var.zones : "${data.aws_region.this.id}${letter}"]
  }
}

# One key with the same material in both regions, created by the global root.
data "aws_kms_key" "this" {
  key_id = "alias/dob-api"
}

locals {
  project = "dob-api"
  prefix  = "${local.project}-${var.name}"
  account = data.aws_caller_identity.this.account_id
  region  = data.aws_region.this.id
  arn     = "arn:${data.aws_partition.this.partition}"
  key_arn = data.aws_kms_key.this.arn
  peered  = var.peering != null

  tags = { Project = local.project, Region = var.name }

  # The values of each size; './dev infra check' reads them, too.
  catalogue = jsondecode(file("${path.module}/sizes.json"))
  size      = local.catalogue.sizes[var.size]
  family    = local.catalogue.families[var.architecture]
  types = {
    service    = "${local.family.burst}.${local.size.service}"
    monitoring = "${local.family.burst}.${local.size.monitoring}"
    database   = "${var.size == "small" ? local.family.burst : local.family.steady}.${local.size.database}"
  }
}
