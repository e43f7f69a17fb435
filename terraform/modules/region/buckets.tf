# All buckets of the region. Their names can be derived without reading the other region's state.

locals {
  lock_days = 30
  buckets = {
    # pgBackRest of both regions writes here. Deleted objects are kept until the lock and the lifecycle rules release them.
    backup = { lock_days = local.lock_days, keep_replaced_days = 35, expire_days = null, policies = [] }
    # Copies of the other region's backups, to which no host has access.
    copies = { lock_days = local.lock_days, keep_replaced_days = 35, expire_days = 35, policies = [] }
    # Our Debian packages, for hosts of this network.
    apt = { lock_days = null, keep_replaced_days = 90, expire_days = null, policies = [data.aws_iam_policy_document.read_apt.json] }
    # The balancer's access logs, if enabled. They contain addresses and names of users, so they are kept only for days.
    logs = { lock_days = null, keep_replaced_days = 1, expire_days = coalesce(var.access_log_days, 1), policies = [data.aws_iam_policy_document.write_logs.json] }
  }
  bucket_arns = { for name in ["backup", "copies", "apt", "logs"] : name => "${local.arn}:s3:::${local.project}-${name}-${local.account}-${local.region}" }
}

module "bucket" {
  source             = "../bucket"
  for_each           = local.buckets
  name               = trimprefix(local.bucket_arns[each.key], "${local.arn}:s3:::")
  encryption         = contains(["apt", "logs"], each.key) ? "AES256" : "aws:kms"
  key_arn            = contains(["apt", "logs"], each.key) ? null : local.key_arn
  lock_days          = each.value.lock_days
  lock_mode          = var.backup_lock
  keep_replaced_days = each.value.keep_replaced_days
  expire_days        = each.value.expire_days
  policies           = each.value.policies
}

# apt reads without credentials, through the endpoint of this network.
data "aws_iam_policy_document" "read_apt" {
  statement {
    sid       = "ReadFromThisNetwork"
    actions   = ["s3:GetObject"]
    resources = ["${local.bucket_arns.apt}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceVpce"
      values   = [aws_vpc_endpoint.s3.id]
    }
  }
}

data "aws_iam_policy_document" "write_logs" {
  statement {
    sid       = "BalancerWrites"
    actions   = ["s3:PutObject"]
    resources = ["${local.bucket_arns.logs}/balancer/AWSLogs/${local.account}/*"]

    principals {
      type        = "Service"
      identifiers = ["logdelivery.elasticloadbalancing.amazonaws.com"]
    }
  }

  # In regions from before August 2022, a separate account of AWS delivers the logs, and some accept only that account.
  statement {
    sid       = "OlderBalancerWrites"
    actions   = ["s3:PutObject"]
    resources = ["${local.bucket_arns.logs}/balancer/AWSLogs/${local.account}/*"]

    principals {
      type        = "AWS"
      identifiers = [data.aws_elb_service_account.this.arn]
    }
  }
}

data "aws_elb_service_account" "this" {}
