output "vpc_id" {
  description = "The network's id; set the other region's `peering` to it first."
  value       = aws_vpc.this.id
}

output "peering_id" {
  description = "The peering that this region requested; set the other region's `peering` to it to accept."
  value       = one(aws_vpc_peering_connection.this[*].id)
}

output "hosts" {
  description = "Database and monitoring hosts, by name: id, fixed address, zone, role."
  value = { for name, host in local.hosts : "${local.prefix}-${name}" => {
    id      = aws_instance.this[name].id
    address = aws_instance.this[name].private_ip
    zone    = aws_instance.this[name].availability_zone
    role    = host.role
  } }
}

output "service" {
  description = "For roll-outs: the group, its launch template, and the alarms that roll it back; null before an image is set."
  value = var.image == null ? null : {
    group           = aws_autoscaling_group.service[0].name
    launch_template = aws_launch_template.service[0].id
    alarms          = [for alarm in aws_cloudwatch_metric_alarm.balancer : alarm.alarm_name]
  }
}

output "balancer" {
  description = "The region's own public name, and the balancer's."
  value       = { name = local.regional_name, address = aws_lb.this.dns_name }
}

output "registry" {
  description = "The registry to which a release pushes the container image, for `ecs`."
  value       = aws_ecr_repository.this.repository_url
}

output "buckets" {
  description = "Buckets by their purpose."
  value       = { for name, bucket in module.bucket : name => bucket.name }
}

output "alarm_topic" {
  description = "The topic that alarms and Alertmanager publish to."
  value       = aws_sns_topic.alarms.arn
}

output "shell_endpoint" {
  description = "The EC2 Instance Connect Endpoint, for ssh."
  value       = aws_ec2_instance_connect_endpoint.this.id
}
