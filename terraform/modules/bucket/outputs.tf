output "name" {
  description = "Name of the bucket, once its policy exists."
  value       = aws_s3_bucket.this.bucket
  depends_on  = [aws_s3_bucket_policy.this]
}

output "arn" {
  description = "ARN of the bucket."
  value       = aws_s3_bucket.this.arn
}

output "lock" {
  description = "How versions are locked: GOVERNANCE or COMPLIANCE; null for no lock."
  value       = one(aws_s3_bucket_object_lock_configuration.this[*].rule[0].default_retention[0].mode)
}
