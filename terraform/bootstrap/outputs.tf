# What each root needs at init; ./dev infra writes it to the root's backend.hcl.

locals {
  backend_a = "bucket = \"${module.state_a.name}\"\nregion = \"${local.regions.a.region}\"\n"
  backend_b = "bucket = \"${module.state_b.name}\"\nregion = \"${local.regions.b.region}\"\n"
}

output "primary" {
  description = "Where the primary region's state is: in its own region."
  value       = local.backend_a
}

output "failover" {
  description = "Where the failover region's state is: in its own region."
  value       = local.backend_b
}

output "global" {
  description = "Where the global state is: not in the region whose loss it has to deal with."
  value       = local.backend_b
}
