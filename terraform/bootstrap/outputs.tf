# The backend settings of each root at init; ./dev infra writes them to the root's backend.hcl.

locals {
  backend_a = "bucket = \"${module.state_a.name}\"\nregion = \"${local.regions.a.region}\"\n"
  backend_b = "bucket = \"${module.state_b.name}\"\nregion = \"${local.regions.b.region}\"\n"
}

output "primary" {
  description = "The primary region's state, in its own region."
  value       = local.backend_a
}

output "failover" {
  description = "The failover region's state, in its own region."
  value       = local.backend_b
}

output "global" {
  description = "The global state, in the failover region: it is needed when the primary region is lost."
  value       = local.backend_b
}
