# The public side: one load balancer over three zones, and its certificate.

locals {
  # The failover records of the global root point to this name.
  regional_name = "${local.region}.${var.domain}"
  health_path   = "/healthz"
  targets = merge(
    { hosts = { kind = "instance", weight = var.ecs == null ? 100 : 100 - var.ecs.weight } },
    var.ecs == null ? {} : { tasks = { kind = "ip", weight = var.ecs.weight } },
  )
  validation = { for option in aws_acm_certificate.this.domain_validation_options : option.domain_name => option }
}

data "aws_route53_zone" "this" {
  name = var.domain
}

resource "aws_acm_certificate" "this" {
  domain_name               = "api.${var.domain}"
  subject_alternative_names = [local.regional_name]
  validation_method         = "DNS"

  lifecycle {
    create_before_destroy = true
  }
}

# Both certificates need the same record for the name that both regions serve. It is in the global root, so it outlives a
# region that is destroyed.
resource "aws_route53_record" "validation" {
  zone_id = data.aws_route53_zone.this.zone_id
  name    = local.validation[local.regional_name].resource_record_name
  type    = local.validation[local.regional_name].resource_record_type
  records = [local.validation[local.regional_name].resource_record_value]
  ttl     = 300
}

resource "aws_acm_certificate_validation" "this" {
  certificate_arn         = aws_acm_certificate.this.arn
  validation_record_fqdns = [aws_route53_record.validation.fqdn, local.validation["api.${var.domain}"].resource_record_name]
}

resource "aws_route53_record" "regional" {
  zone_id = data.aws_route53_zone.this.zone_id
  name    = local.regional_name
  type    = "A"

  alias {
    name                   = aws_lb.this.dns_name
    zone_id                = aws_lb.this.zone_id
    evaluate_target_health = true
  }
}

resource "aws_lb" "this" {
  name                       = local.prefix
  load_balancer_type         = "application"
  internal                   = false
  security_groups            = [aws_security_group.this["balancer"].id]
  subnets                    = local.subnet_ids.public
  idle_timeout               = 60
  desync_mitigation_mode     = "strictest"
  drop_invalid_header_fields = true
  enable_deletion_protection = true
  tags                       = { Name = local.prefix }

  # Each path contains the name of a user, and the balancer can neither omit the path nor use our key.
  access_logs {
    enabled = var.access_log_days != null
    bucket  = module.bucket["logs"].name
    prefix  = "balancer"
  }
}

# Target groups of hosts and containers, with the same checks and the same drain. A database failover never fails the check.
resource "aws_lb_target_group" "this" {
  for_each                      = local.targets
  name                          = "${local.prefix}-${each.key}"
  vpc_id                        = aws_vpc.this.id
  target_type                   = each.value.kind
  port                          = 8080
  protocol                      = "HTTP"
  load_balancing_algorithm_type = "least_outstanding_requests"
  # Longer than the time for which a write waits for a primary.
  deregistration_delay = 40

  health_check {
    path                = local.health_path
    matcher             = "200"
    interval            = 5
    timeout             = 2
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }
}

resource "aws_lb_listener" "https" {
  load_balancer_arn = aws_lb.this.arn
  port              = 443
  protocol          = "HTTPS"
  ssl_policy        = "ELBSecurityPolicy-TLS13-1-2-Res-2021-06"
  certificate_arn   = aws_acm_certificate_validation.this.certificate_arn

  default_action {
    type = "forward"

    forward {
      dynamic "target_group" {
        for_each = local.targets

        content {
          arn    = aws_lb_target_group.this[target_group.key].arn
          weight = target_group.value.weight
        }
      }
    }
  }
}

resource "aws_lb_listener" "http" {
  load_balancer_arn = aws_lb.this.arn
  port              = 80
  protocol          = "HTTP"

  default_action {
    type = "redirect"

    redirect {
      protocol    = "HTTPS"
      port        = "443"
      status_code = "HTTP_301"
    }
  }
}

resource "aws_wafv2_web_acl" "this" {
  count       = var.rate_limit == null ? 0 : 1
  name        = local.prefix
  description = "Refuses addresses that send too many requests"
  scope       = "REGIONAL"

  default_action {
    allow {}
  }

  rule {
    name     = "rate"
    priority = 1

    action {
      block {}
    }

    statement {
      rate_based_statement {
        limit              = var.rate_limit
        aggregate_key_type = "IP"

        # Each of Route 53's checkers sends 30 requests in five minutes. If one is blocked, the region disappears from the DNS.
        scope_down_statement {
          not_statement {
            statement {
              byte_match_statement {
                search_string         = local.health_path
                positional_constraint = "EXACTLY"

                field_to_match {
                  uri_path {}
                }

                text_transformation {
                  priority = 0
                  type     = "NONE"
                }
              }
            }
          }
        }
      }
    }

    visibility_config {
      cloudwatch_metrics_enabled = true
      metric_name                = "${local.prefix}-rate"
      sampled_requests_enabled   = false
    }
  }

  visibility_config {
    cloudwatch_metrics_enabled = true
    metric_name                = local.prefix
    sampled_requests_enabled   = false
  }
}

resource "aws_wafv2_web_acl_association" "this" {
  count        = var.rate_limit == null ? 0 : 1
  resource_arn = aws_lb.this.arn
  web_acl_arn  = aws_wafv2_web_acl.this[0].arn
}
