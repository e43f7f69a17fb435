# The permissions of each workflow.

locals {
  in_both_regions = { test = "StringEquals", variable = "aws:RequestedRegion", values = [for region in local.regions : region.region] }
  image_arns      = flatten([for region in local.regions : [for kind in ["image", "snapshot"] : "arn:aws:ec2:${region.region}::${kind}/*"]])
  launched_arns = flatten([for region in local.regions : [
    for kind in ["instance", "key-pair", "network-interface", "security-group", "subnet", "volume"] : "arn:aws:ec2:${region.region}:${local.account}:${kind}/*"
  ]])
  template_arns    = [for region in local.regions : "arn:aws:ec2:${region.region}:${local.account}:launch-template/*"]
  account_key_arns = [for region in local.regions : "arn:aws:kms:${region.region}:${local.account}:key/*"]
  secret_arns      = [for region in local.regions : "arn:aws:ssm:${region.region}:${local.account}:parameter/dob-api/*"]
}

# Reads settings, never data: a pull request's code must not see a secret.
data "aws_iam_policy_document" "plan" {
  statement {
    sid       = "NoSecrets"
    effect    = "Deny"
    actions   = ["ssm:GetParameter", "ssm:GetParameters", "ssm:GetParametersByPath", "ssm:GetParameterHistory", "secretsmanager:GetSecretValue"]
    resources = ["*"]
  }

  statement {
    sid       = "NoData"
    effect    = "Deny"
    actions   = ["kms:Decrypt"]
    resources = local.key_arns
  }

  statement {
    sid           = "NoObjectsButStates"
    effect        = "Deny"
    actions       = ["s3:GetObject", "s3:GetObjectVersion"]
    not_resources = [local.states]
  }
}

# A role that applies the infrastructure controls the account; the environment's approval protects it. It creates only our roles.
data "aws_iam_policy_document" "infra" {
  statement {
    sid = "RolesOfOurs"
    actions = [
      "iam:AddRoleToInstanceProfile", "iam:AttachRolePolicy", "iam:CreateInstanceProfile", "iam:CreateRole", "iam:DeleteInstanceProfile",
      "iam:DeleteRole", "iam:DeleteRolePolicy", "iam:DetachRolePolicy", "iam:GetInstanceProfile", "iam:GetRole", "iam:GetRolePolicy",
      "iam:ListAttachedRolePolicies", "iam:ListInstanceProfilesForRole", "iam:ListRolePolicies", "iam:PassRole", "iam:PutRolePolicy",
      "iam:RemoveRoleFromInstanceProfile", "iam:TagInstanceProfile", "iam:TagRole", "iam:UpdateAssumeRolePolicy", "iam:UpdateRole",
    ]
    resources = ["arn:aws:iam::${local.account}:role/dob-api-*", "arn:aws:iam::${local.account}:instance-profile/dob-api-*"]
  }

  # It could lift this restriction, visibly in the logs; nobody can lift `backup_lock = "COMPLIANCE"`.
  statement {
    sid       = "LockedBackups"
    effect    = "Deny"
    actions   = ["s3:BypassGovernanceRetention"]
    resources = ["*"]
  }

  statement {
    sid       = "WhoIssuesTokens"
    actions   = ["iam:GetOpenIDConnectProvider", "iam:UpdateOpenIDConnectProviderThumbprint", "iam:TagOpenIDConnectProvider"]
    resources = [aws_iam_openid_connect_provider.this.arn]
  }
}

# Publishes images of published packages.
data "aws_iam_policy_document" "images" {
  statement {
    sid       = "ReadPackages"
    actions   = ["s3:GetObject", "s3:ListBucket"]
    resources = [for part in ["", "/*"] : "arn:aws:s3:::dob-api-apt-${local.account}-*${part}"]
  }

  statement {
    sid       = "Snapshots"
    actions   = ["ebs:StartSnapshot", "ebs:PutSnapshotBlock", "ebs:CompleteSnapshot"]
    resources = [for region in local.regions : "arn:aws:ec2:${region.region}::snapshot/*"]
  }

  statement {
    sid = "Look"
    actions = [
      "ec2:DescribeImages", "ec2:DescribeInstances", "ec2:DescribeLaunchTemplates", "ec2:DescribeLaunchTemplateVersions",
      "ec2:DescribeSnapshots",
    ]
    resources = ["*"]
  }

  statement {
    sid       = "Images"
    actions   = ["ec2:CopyImage", "ec2:RegisterImage"]
    resources = ["*"]

    condition {
      test     = local.in_both_regions.test
      variable = local.in_both_regions.variable
      values   = local.in_both_regions.values
    }
  }

  statement {
    sid       = "TagsOfImages"
    actions   = ["ec2:CreateTags"]
    resources = local.image_arns

    condition {
      test     = "StringEquals"
      variable = "ec2:CreateAction"
      values   = ["CopyImage", "RegisterImage"]
    }
  }

  # The EBS direct API is not part of EC2: its StartSnapshot is no CreateAction. A snapshot with our tag keeps its tags; only our own
  # keys are written.
  statement {
    sid       = "TagsOfSnapshots"
    actions   = ["ec2:CreateTags"]
    resources = [for region in local.regions : "arn:aws:ec2:${region.region}::snapshot/*"]

    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/Project"
      values   = ["dob-api"]
    }

    condition {
      test     = "Null"
      variable = "aws:ResourceTag/Project"
      values   = ["true"]
    }

    condition {
      test     = "ForAllValues:StringEquals"
      variable = "aws:TagKeys"
      values   = ["Architecture", "Digest", "Manifest", "Name", "Project", "Serial", "Version"]
    }
  }

  # For accounts that encrypt all volumes by default, with a separate key.
  statement {
    sid       = "EncryptionByDefault"
    actions   = ["kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo"]
    resources = local.account_key_arns

    condition {
      test     = "StringLike"
      variable = "kms:ViaService"
      values   = ["ebs.*.amazonaws.com", "ec2.*.amazonaws.com"]
    }
  }

  statement {
    sid       = "EncryptionByDefaultGrant"
    actions   = ["kms:CreateGrant"]
    resources = local.account_key_arns

    condition {
      test     = "Bool"
      variable = "kms:GrantIsForAWSResource"
      values   = ["true"]
    }
  }

  statement {
    sid       = "ShareAndPrune"
    actions   = ["ec2:DeleteSnapshot", "ec2:DeregisterImage", "ec2:ModifyImageAttribute", "ec2:ModifySnapshotAttribute"]
    resources = local.image_arns

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/Project"
      values   = ["dob-api"]
    }
  }
}

# Builds the running image with newer packages of Debian. It starts no roll-out, because that needs approval.
data "aws_iam_policy_document" "updates" {
  source_policy_documents = [data.aws_iam_policy_document.images.json]

  statement {
    sid       = "LookAtGroups"
    actions   = ["autoscaling:DescribeAutoScalingGroups"]
    resources = ["*"]
  }
}

# Publishes images, containers and packages.
data "aws_iam_policy_document" "release" {
  source_policy_documents = [data.aws_iam_policy_document.images.json]

  statement {
    sid       = "WritePackages"
    actions   = ["s3:PutObject"]
    resources = ["arn:aws:s3:::dob-api-apt-${local.account}-*/*"]
  }

  statement {
    sid       = "ContainerLogin"
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"]
  }

  statement {
    sid = "Containers"
    actions = [
      "ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:CompleteLayerUpload", "ecr:InitiateLayerUpload", "ecr:PutImage",
      "ecr:UploadLayerPart",
    ]
    resources = [for region in local.regions : "arn:aws:ecr:${region.region}:${local.account}:repository/dob-api"]
  }
}

# Rolls an image out, and rolls it back.
data "aws_iam_policy_document" "deploy" {
  statement {
    sid = "Look"
    actions = [
      "autoscaling:DescribeAutoScalingGroups", "autoscaling:DescribeInstanceRefreshes", "autoscaling:DescribeScalingActivities",
      "cloudwatch:DescribeAlarms", "ec2:DescribeImages", "ec2:DescribeInstanceTypes", "ec2:DescribeLaunchTemplateVersions",
    ]
    resources = ["*"]
  }

  statement {
    sid       = "RollOut"
    actions   = ["autoscaling:StartInstanceRefresh", "autoscaling:CancelInstanceRefresh", "autoscaling:RollbackInstanceRefresh"]
    resources = [for region in local.regions : "arn:aws:autoscaling:${region.region}:${local.account}:autoScalingGroup:*:autoScalingGroupName/dob-api-*"]
  }

  # The role adds versions to the launch template of the service hosts, and the group launches with the role's rights what that
  # template describes. IAM checks each part of a launch: the template must be ours, and every other part must come from a template.
  statement {
    sid       = "TemplateOfServiceHosts"
    actions   = ["ec2:CreateLaunchTemplateVersion", "ec2:RunInstances"]
    resources = local.template_arns

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/Project"
      values   = ["dob-api"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/Role"
      values   = ["service"]
    }
  }

  statement {
    sid       = "Launch"
    actions   = ["ec2:RunInstances"]
    resources = concat(local.image_arns, local.launched_arns)

    condition {
      test     = "ArnLike"
      variable = "ec2:LaunchTemplate"
      values   = local.template_arns
    }
  }

  statement {
    sid       = "TagsOfHosts"
    actions   = ["ec2:CreateTags"]
    resources = [for region in local.regions : "arn:aws:ec2:${region.region}:${local.account}:*/*"]

    condition {
      test     = "StringEquals"
      variable = "ec2:CreateAction"
      values   = ["RunInstances"]
    }

    # Never an instance that would get a password from the playbooks.
    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/Role"
      values   = ["service"]
    }
  }

  statement {
    sid       = "ServiceRole"
    actions   = ["iam:PassRole"]
    resources = [for name in keys(local.regions) : "arn:aws:iam::${local.account}:role/dob-api-${name}-service"]
  }
}

# Reaches the hosts, like the restore drill: finds them and opens tunnels to them.
data "aws_iam_policy_document" "drill" {
  statement {
    sid       = "Look"
    actions   = ["ec2:DescribeInstances", "ec2:DescribeInstanceConnectEndpoints", "ec2:DescribeVpcs"]
    resources = ["*"]
  }

  statement {
    sid       = "Tunnel"
    actions   = ["ec2-instance-connect:OpenTunnel"]
    resources = [for region in local.regions : "arn:aws:ec2:${region.region}:${local.account}:instance-connect-endpoint/*"]

    condition {
      test     = "NumericEquals"
      variable = "ec2-instance-connect:remotePort"
      values   = ["22"]
    }
  }

}

# Runs the playbooks: reaches the hosts, manages the secrets, and fences a lost region.
data "aws_iam_policy_document" "database" {
  source_policy_documents = [data.aws_iam_policy_document.drill.json]

  statement {
    sid       = "FenceAndResize"
    actions   = ["ec2:ModifyInstanceAttribute", "ec2:StartInstances", "ec2:StopInstances"]
    resources = [for region in local.regions : "arn:aws:ec2:${region.region}:${local.account}:instance/*"]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/Project"
      values   = ["dob-api"]
    }
  }

  # A host starts only if the caller may grant the use of its volumes' key.
  statement {
    sid       = "StartWithEncryptedVolumes"
    actions   = ["kms:CreateGrant"]
    resources = local.key_arns

    condition {
      test     = "Bool"
      variable = "kms:GrantIsForAWSResource"
      values   = ["true"]
    }
  }

  statement {
    sid       = "Secrets"
    actions   = ["ssm:GetParameter", "ssm:PutParameter"]
    resources = local.secret_arns
  }

  statement {
    sid       = "SecretsKey"
    actions   = ["kms:Decrypt", "kms:Encrypt"]
    resources = local.key_arns

    condition {
      test     = "StringLike"
      variable = "kms:ViaService"
      values   = ["ssm.*.amazonaws.com"]
    }
  }
}
