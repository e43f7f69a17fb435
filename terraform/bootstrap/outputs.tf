output "backend" {
  description = "What the other roots need at init: write it to backend.hcl."
  value       = <<-EOT
    bucket = "${module.state.name}"
    region = "${var.region}"
  EOT
}
