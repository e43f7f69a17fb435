# Endpoints for the cloud services that hosts call, because hosts have no internet access. The parameter store, the buckets and the
# topic use the key for the hosts. Each endpoint costs about eight dollars per month and zone.

locals {
  endpoints = merge(
    {
      ssm = ["ssm:GetParameter", "ssm:GetParameters"]
      sns = ["sns:Publish"]
      ec2 = ["ec2:DescribeInstances"]
    },
    var.ecs == null ? {} : {
      logs      = ["logs:CreateLogStream", "logs:PutLogEvents"]
      "ecr.api" = ["ecr:GetAuthorizationToken", "ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage"]
      "ecr.dkr" = ["ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage"]
    },
  )
  shell_subnet = "data${var.shell_zone}"
  # ECR keeps the layers of an image in a bucket of AWS.
  layers_bucket = "${local.arn}:s3:::prod-${local.region}-starport-layer-bucket/*"
}

data "aws_iam_policy_document" "endpoint" {
  for_each = local.endpoints

  statement {
    sid       = "OnlyThisAccount"
    actions   = each.value
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = ["*"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:PrincipalAccount"
      values   = [local.account]
    }
  }
}

data "aws_iam_policy_document" "endpoint_s3" {
  statement {
    sid       = "OnlyBucketsOfThisAccount"
    actions   = ["s3:GetObject", "s3:GetObjectTagging", "s3:PutObject", "s3:PutObjectTagging", "s3:DeleteObject", "s3:ListBucket", "s3:AbortMultipartUpload"]
    resources = ["*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceAccount"
      values   = [local.account]
    }
  }

  dynamic "statement" {
    for_each = var.ecs[*]

    content {
      sid       = "ImageLayers"
      actions   = ["s3:GetObject"]
      resources = [local.layers_bucket]

      principals {
        type        = "*"
        identifiers = ["*"]
      }
    }
  }
}

data "aws_iam_policy_document" "endpoint_peer_s3" {
  statement {
    sid       = "OnlyBackups"
    actions   = ["s3:GetObject", "s3:GetObjectTagging", "s3:PutObject", "s3:PutObjectTagging", "s3:DeleteObject", "s3:ListBucket", "s3:AbortMultipartUpload"]
    resources = flatten([for bucket in local.backup_buckets : [bucket, "${bucket}/*"]])

    principals {
      type        = "AWS"
      identifiers = ["*"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:PrincipalAccount"
      values   = [local.account]
    }
  }
}

resource "aws_vpc_endpoint" "s3" {
  vpc_id            = aws_vpc.this.id
  vpc_endpoint_type = "Gateway"
  service_name      = "com.amazonaws.${local.region}.s3"
  route_table_ids   = [for tier in ["data", "service"] : aws_route_table.this[tier].id]
  policy            = data.aws_iam_policy_document.endpoint_s3.json
  tags              = { Name = "${local.prefix}-s3" }
}

# A gateway endpoint reaches only buckets of its region; this one reaches the other region's backups.
resource "aws_vpc_endpoint" "peer_s3" {
  vpc_id              = aws_vpc.this.id
  vpc_endpoint_type   = "Interface"
  service_name        = "com.amazonaws.${var.peer.region}.s3"
  service_region      = var.peer.region
  subnet_ids          = local.subnet_ids.service
  security_group_ids  = [aws_security_group.this["endpoints"].id]
  private_dns_enabled = true
  policy              = data.aws_iam_policy_document.endpoint_peer_s3.json
  tags                = { Name = "${local.prefix}-s3-${var.peer.name}" }

  # Only hosts of this network use its names.
  dns_options {
    private_dns_only_for_inbound_resolver_endpoint = false
  }
}

resource "aws_vpc_endpoint" "this" {
  for_each          = local.endpoints
  vpc_id            = aws_vpc.this.id
  vpc_endpoint_type = "Interface"
  service_name      = "com.amazonaws.${local.region}.${each.key}"
  # If only one host calls the service, the endpoint is in its zone.
  subnet_ids          = each.key == "ec2" ? [aws_subnet.this["service${local.hosts.monitor.zone}"].id] : local.subnet_ids.service
  security_group_ids  = [aws_security_group.this["endpoints"].id]
  private_dns_enabled = true
  policy              = data.aws_iam_policy_document.endpoint[each.key].json
  tags                = { Name = "${local.prefix}-${each.key}" }
}

# The only way to a shell: ssh through a tunnel that the cloud opens for permitted roles. A network has at most one endpoint. It
# reaches the hosts of all zones. If its zone is lost, `shell_zone` moves it.
resource "aws_ec2_instance_connect_endpoint" "this" {
  subnet_id          = aws_subnet.this[local.shell_subnet].id
  security_group_ids = [aws_security_group.this["shell"].id]
  preserve_client_ip = false
  tags               = { Name = local.prefix }
}
