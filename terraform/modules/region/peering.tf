# The connections between the regions: a peering of their networks, and copies of backups. Neither region reads the state of the
# other: regions.json contains what they share, except the id in `peering`.

locals {
  asks       = local.peered && startswith(coalesce(var.peering, "-"), "vpc-")
  accepts    = local.peered && !local.asks
  peering_id = try(one(concat(aws_vpc_peering_connection.this[*].id, aws_vpc_peering_connection_accepter.this[*].id)), null)

  peer_key_arn = replace(local.key_arn, ":${local.region}:", ":${var.peer.region}:")
  copies_arn   = "${local.arn}:s3:::${local.project}-copies-${local.account}-${var.peer.region}"
}

resource "aws_vpc_peering_connection" "this" {
  count       = local.asks ? 1 : 0
  vpc_id      = aws_vpc.this.id
  peer_vpc_id = var.peering
  peer_region = var.peer.region
  tags        = { Name = "${local.project}-${var.name}-${var.peer.name}" }
}

resource "aws_vpc_peering_connection_accepter" "this" {
  count                     = local.accepts ? 1 : 0
  vpc_peering_connection_id = var.peering
  auto_accept               = true
  tags                      = { Name = "${local.project}-${var.peer.name}-${var.name}" }
}

resource "aws_route" "peer" {
  for_each                  = toset(local.peered ? ["data", "service"] : [])
  route_table_id            = aws_route_table.this[each.key].id
  destination_cidr_block    = var.peer.cidr
  vpc_peering_connection_id = local.peering_id
}

resource "aws_s3_bucket_replication_configuration" "copies" {
  count  = local.peered ? 1 : 0
  bucket = module.bucket["backup"].name
  role   = aws_iam_role.this["replication"].arn

  rule {
    id     = "copies"
    status = "Enabled"
    filter {}

    # Objects deleted here stay there until they expire.
    delete_marker_replication {
      status = "Disabled"
    }

    source_selection_criteria {
      sse_kms_encrypted_objects {
        status = "Enabled"
      }
    }

    destination {
      bucket = local.copies_arn

      encryption_configuration {
        replica_kms_key_id = local.peer_key_arn
      }
    }
  }
}

data "aws_iam_policy_document" "replicate" {
  statement {
    actions   = ["s3:GetReplicationConfiguration", "s3:ListBucket"]
    resources = [local.bucket_arns.backup]
  }

  statement {
    actions   = ["s3:GetObjectVersionForReplication", "s3:GetObjectVersionAcl", "s3:GetObjectVersionTagging", "s3:GetObjectRetention", "s3:GetObjectLegalHold"]
    resources = ["${local.bucket_arns.backup}/*"]
  }

  statement {
    actions   = ["s3:ReplicateObject", "s3:ReplicateTags"]
    resources = ["${local.copies_arn}/*"]
  }

  statement {
    actions   = ["kms:Decrypt"]
    resources = [local.key_arn]

    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = ["s3.${local.region}.amazonaws.com"]
    }
  }

  statement {
    actions   = ["kms:Encrypt"]
    resources = [local.peer_key_arn]

    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = ["s3.${var.peer.region}.amazonaws.com"]
    }
  }
}
