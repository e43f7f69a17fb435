# Secrets are written to the parameter store by the deploy, in each region, and read by hosts: none is in a state.

locals {
  secrets = { for name in ["database-password", "database-ca"] :
    name => "${local.arn}:ssm:${local.region}:${local.account}:parameter/${local.project}/${name}"
  }
}

data "aws_iam_policy_document" "read_secrets" {
  statement {
    actions   = ["ssm:GetParameter", "ssm:GetParameters"]
    resources = values(local.secrets)
  }

  statement {
    actions   = ["kms:Decrypt"]
    resources = [local.key_arn]

    condition {
      test     = "StringEquals"
      variable = "kms:EncryptionContext:PARAMETER_ARN"
      values   = values(local.secrets)
    }
  }
}
