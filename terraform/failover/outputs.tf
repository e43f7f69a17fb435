output "vpc_id" {
  description = "The network's id; set the other region's `peering` to it first."
  value       = module.region.vpc_id
}

output "peering_id" {
  description = "The peering that this region requested; set the other region's `peering` to it to accept."
  value       = module.region.peering_id
}

output "hosts" {
  description = "Database and monitoring hosts, by name: id, fixed address, zone, role."
  value       = module.region.hosts
}

output "service" {
  description = "For roll-outs: the group, its launch template, and the alarms that roll it back; null before an image is set."
  value       = module.region.service
}

output "balancer" {
  description = "The region's own public name, and the balancer's."
  value       = module.region.balancer
}

output "registry" {
  description = "The registry to which a release pushes the container image, for `ecs`."
  value       = module.region.registry
}

output "buckets" {
  description = "Buckets by their purpose."
  value       = module.region.buckets
}

output "alarm_topic" {
  description = "The topic that alarms and Alertmanager publish to."
  value       = module.region.alarm_topic
}

output "shell_endpoint" {
  description = "The EC2 Instance Connect Endpoint, for ssh."
  value       = module.region.shell_endpoint
}
