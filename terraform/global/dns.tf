# Clients use api.<domain>: the first region's balancer while it is healthy, else that of the second. Each region manages the
# record of its name, so this root reads nothing from the regions.

locals {
  failover = { a = "PRIMARY", b = "SECONDARY" }
}

resource "aws_route53_zone" "this" {
  name    = var.domain
  comment = "dob-api"
}

# Certificates of both regions contain the public name, and one record validates all of them, also when they are renewed. This
# certificate serves no connection. It creates the record, so that no region owns it.
resource "aws_acm_certificate" "this" {
  provider          = aws.b
  domain_name       = "api.${var.domain}"
  validation_method = "DNS"

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_route53_record" "validation" {
  zone_id = aws_route53_zone.this.zone_id
  name    = one(aws_acm_certificate.this.domain_validation_options).resource_record_name
  type    = one(aws_acm_certificate.this.domain_validation_options).resource_record_type
  records = [one(aws_acm_certificate.this.domain_validation_options).resource_record_value]
  ttl     = 300
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
