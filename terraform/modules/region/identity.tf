# The permissions of each kind of host in the cloud, by a role, without access keys.

locals {
  roles = merge(
    {
      service    = { trusted = "ec2", policy = data.aws_iam_policy_document.read_secrets["host"].json }
      database   = { trusted = "ec2", policy = data.aws_iam_policy_document.keep_backups.json }
      monitoring = { trusted = "ec2", policy = data.aws_iam_policy_document.alert.json }
      flow-logs  = { trusted = "vpc-flow-logs", policy = data.aws_iam_policy_document.write_flow_logs.json }
    },
    local.peered ? { replication = { trusted = "s3", policy = data.aws_iam_policy_document.replicate.json } } : {},
    var.ecs == null ? {} : {
      task-start = { trusted = "ecs-tasks", policy = data.aws_iam_policy_document.start_task.json }
    },
  )
  backup_buckets = [for region in [local.region, var.peer.region] : "${local.arn}:s3:::${local.project}-backup-${local.account}-${region}"]
  # The key of the other region has the same id.
  key_arns = [local.key_arn, local.peer_key_arn]
}

data "aws_iam_policy_document" "trust" {
  for_each = local.roles

  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["${each.value.trusted}.amazonaws.com"]
    }

    dynamic "condition" {
      for_each = contains(["ec2", "s3"], each.value.trusted) ? [] : [local.account]

      content {
        test     = "StringEquals"
        variable = "aws:SourceAccount"
        values   = [condition.value]
      }
    }
  }
}

resource "aws_iam_role" "this" {
  for_each           = local.roles
  name               = "${local.prefix}-${each.key}"
  assume_role_policy = data.aws_iam_policy_document.trust[each.key].json
}

resource "aws_iam_role_policy" "this" {
  for_each = local.roles
  name     = each.key
  role     = aws_iam_role.this[each.key].id
  policy   = each.value.policy
}

resource "aws_iam_instance_profile" "this" {
  for_each = toset([for name, role in local.roles : name if role.trusted == "ec2"])
  name     = aws_iam_role.this[each.key].name
  role     = aws_iam_role.this[each.key].name
}

data "aws_iam_policy_document" "keep_backups" {
  statement {
    actions   = ["s3:ListBucket"]
    resources = local.backup_buckets
  }

  statement {
    actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:GetObjectTagging", "s3:PutObjectTagging"]
    resources = [for bucket in local.backup_buckets : "${bucket}/*"]
  }

  statement {
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = local.key_arns

    condition {
      test     = "StringLike"
      variable = "kms:ViaService"
      values   = ["s3.*.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "alert" {
  statement {
    actions   = ["sns:Publish"]
    resources = [aws_sns_topic.alarms.arn]
  }

  # Prometheus finds the service hosts. The action cannot be limited to single instances.
  statement {
    actions   = ["ec2:DescribeInstances"]
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "aws:RequestedRegion"
      values   = [local.region]
    }
  }

  statement {
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [local.key_arn]

    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = ["sns.${local.region}.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "write_flow_logs" {
  statement {
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"]
    resources = ["${aws_cloudwatch_log_group.this["flow"].arn}:*"]
  }

  # A host looks for its group. The action cannot be limited to single groups.
  statement {
    actions   = ["logs:DescribeLogGroups"]
    resources = ["*"]
  }
}
