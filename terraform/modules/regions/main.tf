# The regions and their places, from regions.json, which every root and every program of the project reads.

output "all" {
  description = "Each region by its letter: where it is, its zones, its addresses, and how many database hosts it has."
  value       = jsondecode(file("${path.module}/../../../regions.json"))
}
