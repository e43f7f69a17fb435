# './dev infra secrets' writes secrets to the parameter store of each region, and hosts read them: none is in a state.

locals {
  secrets = { for name in ["database-password", "database-ca"] : name => "${local.parameters}/${name}" }
  # A host shows the monitoring host a certificate; containers are not watched that way.
  secrets_of = { task = values(local.secrets), host = concat(values(local.secrets), ["${local.parameters}/service-identity"]) }
  parameters = "${local.arn}:ssm:${local.region}:${local.account}:parameter/${local.project}"
}

data "aws_iam_policy_document" "read_secrets" {
  for_each = local.secrets_of

  statement {
    actions   = ["ssm:GetParameter", "ssm:GetParameters"]
    resources = each.value
  }

  statement {
    actions   = ["kms:Decrypt"]
    resources = [local.key_arn]

    condition {
      test     = "StringEquals"
      variable = "kms:EncryptionContext:PARAMETER_ARN"
      values   = each.value
    }
  }
}
