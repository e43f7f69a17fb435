output "name_servers" {
  description = "Enter these at the domain's registrar, or as NS records in the zone above."
  value       = aws_route53_zone.this.name_servers
}

output "roles" {
  description = "ARN of the role of each workflow."
  value       = { for name, role in aws_iam_role.workflow : name => role.arn }
}

output "key" {
  description = "ARN of the key, in the first region."
  value       = aws_kms_key.this.arn
}
