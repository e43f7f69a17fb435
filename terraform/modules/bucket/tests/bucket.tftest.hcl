mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
}

variables {
  name = "dob-api-test"
}

run "a_bucket_is_private_versioned_and_encrypted" {
  command = plan

  assert {
    condition     = alltrue([for rule in ["block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets"] : aws_s3_bucket_public_access_block.this[rule]])
    error_message = "something of the bucket may be made public"
  }

  assert {
    condition     = aws_s3_bucket_versioning.this.versioning_configuration[0].status == "Enabled"
    error_message = "the bucket keeps no versions"
  }

  assert {
    condition     = one(aws_s3_bucket_server_side_encryption_configuration.this.rule).apply_server_side_encryption_by_default[0].sse_algorithm == "aws:kms"
    error_message = "the bucket is not encrypted by a key"
  }

  assert {
    condition     = aws_s3_bucket_lifecycle_configuration.this.rule[0].expiration[0].expired_object_delete_marker
    error_message = "marks of deletions whose versions are gone stay, and slow listings down"
  }

  assert {
    condition     = length(aws_s3_bucket_object_lock_configuration.this) == 0
    error_message = "a bucket is locked that was not to be"
  }
}

run "a_locked_bucket_keeps_every_version" {
  command = plan

  variables {
    lock_days = 30
  }

  assert {
    condition     = aws_s3_bucket.this.object_lock_enabled && aws_s3_bucket_object_lock_configuration.this[0].rule[0].default_retention[0].days == 30
    error_message = "the bucket is not locked for 30 days"
  }
}

run "a_name_with_capitals_is_refused" {
  command         = plan
  expect_failures = [var.name]

  variables {
    name = "Dob-Api"
  }
}

run "a_lock_of_no_days_is_refused" {
  command         = plan
  expect_failures = [var.lock_days]

  variables {
    lock_days = 0
  }
}

run "letting_versions_go_before_the_lock_does_is_refused" {
  command         = plan
  expect_failures = [var.keep_replaced_days]

  variables {
    lock_days          = 30
    keep_replaced_days = 10
  }
}

run "an_encryption_that_is_none_is_refused" {
  command         = plan
  expect_failures = [var.encryption]

  variables {
    encryption = "none"
  }
}

run "a_key_for_an_encryption_without_one_is_refused" {
  command         = plan
  expect_failures = [var.key_arn]

  variables {
    encryption = "AES256"
    key_arn    = "arn:aws:kms:eu-west-1:123456789012:key/1"
  }
}

run "deleting_at_once_is_refused" {
  command         = plan
  expect_failures = [var.expire_days]

  variables {
    expire_days = 0
  }
}

run "a_bucket_has_one_rule_that_expires_objects" {
  command = plan

  variables {
    expire_days = 30
  }

  # The cloud refuses two expirations of the same objects; one by age removes the marks too.
  assert {
    condition     = length(flatten([for rule in aws_s3_bucket_lifecycle_configuration.this.rule : rule.expiration])) == 1
    error_message = "two rules expire the same objects"
  }
}

run "a_lock_that_nobody_can_lift" {
  command = plan

  variables {
    lock_days = 30
    lock_mode = "COMPLIANCE"
  }

  assert {
    condition     = aws_s3_bucket_object_lock_configuration.this[0].rule[0].default_retention[0].mode == "COMPLIANCE"
    error_message = "an administrator could lift the lock"
  }
}

run "a_lock_of_another_kind_is_refused" {
  command         = plan
  expect_failures = [var.lock_mode]

  variables {
    lock_mode = "compliance"
  }
}
