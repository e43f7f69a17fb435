# Names of the hosts of both regions, for people: a-db1.dob-api.internal. Each region has its own copy, so they work while the other
# region is down. Programs use the fixed addresses, and need no name server.

locals {
  names = merge([for region, network in local.networks : merge(
    { for name, place in local.databases[region] : "${region}-${name}" => place.address },
    { "${region}-monitor" = cidrhost(cidrsubnet(network.cidr, 8, 1), local.monitoring_byte) },
  )]...)
}

resource "aws_route53_zone" "internal" {
  name    = "${local.project}.internal"
  comment = "${local.prefix}: hosts of both regions"

  vpc {
    vpc_id = aws_vpc.this.id
  }
}

resource "aws_route53_record" "host" {
  for_each = local.names
  zone_id  = aws_route53_zone.internal.zone_id
  name     = "${each.key}.${aws_route53_zone.internal.name}"
  type     = "A"
  ttl      = 300
  records  = [each.value]
}
