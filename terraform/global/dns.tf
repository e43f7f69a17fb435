# Clients use api.<domain>: the first region's balancer while it is healthy, else the other's. Each region keeps the record
# of its own name, so this root needs nothing of theirs.

locals {
  failover = { a = "PRIMARY", b = "SECONDARY" }
}

resource "aws_route53_zone" "this" {
  name    = var.domain
  comment = "dob-api"
}

resource "aws_route53_health_check" "this" {
  for_each          = local.failover
  type              = "HTTPS"
  fqdn              = "${local.regions[each.key].region}.${var.domain}"
  port              = 443
  resource_path     = "/healthz"
  request_interval  = 10
  failure_threshold = 2
  tags              = { Name = "dob-api-${each.key}" }
}

resource "aws_route53_record" "api" {
  for_each        = local.failover
  zone_id         = aws_route53_zone.this.zone_id
  name            = "api.${var.domain}"
  type            = "CNAME"
  ttl             = 30
  records         = ["${local.regions[each.key].region}.${var.domain}"]
  set_identifier  = each.key
  health_check_id = aws_route53_health_check.this[each.key].id

  failover_routing_policy {
    type = each.value
  }
}
