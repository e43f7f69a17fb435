# Which regions there are, and where: the one plan that all roots share.

output "all" {
  description = "Each region by its letter: where it is, and its addresses."
  value = {
    a = { region = "eu-west-1", cidr = "10.0.0.0/16" }
    b = { region = "eu-central-1", cidr = "10.1.0.0/16" }
  }
}
