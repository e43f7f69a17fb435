# Roles of the workflows. Each is bound to this repository and to one environment, whose approval rules protect it; a pull
# request may only read. No credential outlives its job.

locals {
  issuer   = "token.actions.githubusercontent.com"
  states   = "arn:aws:s3:::dob-api-state-${local.account}-*/*"
  key_arns = [for region in local.regions : replace(aws_kms_key.this.arn, ":${local.regions.a.region}:", ":${region.region}:")]

  # A token of a repository that was created, renamed or moved since the summer of 2026 contains both numbers; that of an older one has
  # only the names until it opts in. A new repository with an abandoned name has other numbers, so both forms are safe.
  repositories = distinct([var.repository, replace(var.repository, "/@[0-9]+/", "")])

  workflows = {
    plan     = { subject = "pull_request", policy = data.aws_iam_policy_document.plan.json, managed = "ReadOnlyAccess", hours = 1 }
    infra    = { subject = "environment:infra", policy = data.aws_iam_policy_document.infra.json, managed = "PowerUserAccess", hours = 1 }
    release  = { subject = "environment:release", policy = data.aws_iam_policy_document.release.json, managed = null, hours = 1 }
    updates  = { subject = "environment:updates", policy = data.aws_iam_policy_document.updates.json, managed = null, hours = 1 }
    deploy   = { subject = "environment:deploy", policy = data.aws_iam_policy_document.deploy.json, managed = null, hours = 2 }
    drill    = { subject = "environment:drill", policy = data.aws_iam_policy_document.drill.json, managed = null, hours = 2 }
    database = { subject = "environment:database", policy = data.aws_iam_policy_document.database.json, managed = null, hours = 1 }
  }
}

resource "aws_iam_openid_connect_provider" "this" {
  url            = "https://${local.issuer}"
  client_id_list = ["sts.amazonaws.com"]
}

data "aws_iam_policy_document" "trust" {
  for_each = local.workflows

  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = [aws_iam_openid_connect_provider.this.arn]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:aud"
      values   = ["sts.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:sub"
      values   = [for repository in local.repositories : "repo:${repository}:${each.value.subject}"]
    }
  }
}

resource "aws_iam_role" "workflow" {
  for_each           = local.workflows
  name               = "dob-api-workflow-${each.key}"
  description        = "Taken by workflows of ${var.repository}, ${each.value.subject}"
  assume_role_policy = data.aws_iam_policy_document.trust[each.key].json
  # A session may last as long as its job; each workflow requests the time that it needs.
  max_session_duration = each.value.hours * 3600
}

resource "aws_iam_role_policy" "workflow" {
  for_each = local.workflows
  name     = each.key
  role     = aws_iam_role.workflow[each.key].id
  policy   = each.value.policy
}

resource "aws_iam_role_policy_attachment" "workflow" {
  for_each   = { for name, workflow in local.workflows : name => workflow.managed if workflow.managed != null }
  role       = aws_iam_role.workflow[each.key].name
  policy_arn = "arn:aws:iam::aws:policy/${each.value}"
}
