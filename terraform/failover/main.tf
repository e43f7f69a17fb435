# The failover region, a standby until it is promoted.

module "regions" {
  source = "../modules/regions"
}

locals {
  name = "b"
  here = module.regions.all[local.name]
  peer = merge(module.regions.all["a"], { name = "a" })
}

provider "aws" {
  region = local.here.region

  default_tags {
    tags = { Project = "dob-api", Region = local.name }
  }
}

module "region" {
  source       = "../modules/region"
  name         = local.name
  zones        = local.here.zones
  cidr         = local.here.cidr
  databases    = local.here.databases
  peer         = local.peer
  peering      = var.peering
  domain       = var.domain
  ssh_key      = var.ssh_key
  size         = var.size
  architecture = var.architecture
  image        = var.image
  ecs          = var.ecs
  nat          = var.nat
  shell_zone   = var.shell_zone
  rate_limit   = var.rate_limit
  alarm_email  = var.alarm_email

  access_log_days = var.access_log_days
  backup_lock     = var.backup_lock
}
