# Alarms for people, and those that roll a deploy back. Prometheus has the alerts on databases.

locals {
  balancer_dimension = { LoadBalancer = aws_lb.this.arn_suffix }
  # Alarms on the balancer's metrics. If one fires during a deploy, the deploy is rolled back.
  alarms = {
    errors = {
      why        = "The service answers with 5xx"
      metric     = "HTTPCode_Target_5XX_Count"
      statistic  = "Sum"
      threshold  = 10
      periods    = 2
      dimensions = local.balancer_dimension
    }
    refused = {
      why        = "The balancer has no target that answers"
      metric     = "HTTPCode_ELB_5XX_Count"
      statistic  = "Sum"
      threshold  = 10
      periods    = 2
      dimensions = local.balancer_dimension
    }
    slow = {
      why        = "One request in a hundred takes longer than half a second"
      metric     = "TargetResponseTime"
      statistic  = "p99"
      threshold  = 0.5
      periods    = 3
      dimensions = local.balancer_dimension
    }
    unhealthy = {
      why        = "A target fails its health check"
      metric     = "UnHealthyHostCount"
      statistic  = "Maximum"
      threshold  = 0
      periods    = 5
      dimensions = merge(local.balancer_dimension, { TargetGroup = aws_lb_target_group.this["hosts"].arn_suffix })
    }
  }
}

resource "aws_sns_topic" "alarms" {
  name              = "${local.prefix}-alarms"
  kms_master_key_id = local.key_arn
}

resource "aws_sns_topic_subscription" "email" {
  count     = var.alarm_email == null ? 0 : 1
  topic_arn = aws_sns_topic.alarms.arn
  protocol  = "email"
  endpoint  = var.alarm_email
}

resource "aws_cloudwatch_metric_alarm" "balancer" {
  # Without hosts and containers the balancer always answers 503 to Route 53's checks.
  for_each            = var.image == null && var.ecs == null ? {} : local.alarms
  alarm_name          = "${local.prefix}-${each.key}"
  alarm_description   = each.value.why
  namespace           = "AWS/ApplicationELB"
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = startswith(each.value.statistic, "p") ? null : each.value.statistic
  extended_statistic  = startswith(each.value.statistic, "p") ? each.value.statistic : null
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.threshold
  period              = 60
  evaluation_periods  = each.value.periods
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
}

# A host with failed hardware is restarted on other hardware, with its address and its volumes.
resource "aws_cloudwatch_metric_alarm" "recovery" {
  for_each            = local.hosts
  alarm_name          = "${local.prefix}-${each.key}-recovery"
  alarm_description   = "The hardware of ${local.prefix}-${each.key} failed; it is being moved"
  namespace           = "AWS/EC2"
  metric_name         = "StatusCheckFailed_System"
  dimensions          = { InstanceId = aws_instance.this[each.key].id }
  statistic           = "Maximum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  period              = 60
  evaluation_periods  = 2
  alarm_actions       = ["${local.arn}:automate:${local.region}:ec2:recover", aws_sns_topic.alarms.arn]
}

resource "aws_cloudwatch_log_group" "this" {
  for_each          = toset(concat(["flow"], var.ecs == null ? [] : ["tasks"]))
  name              = "/${local.project}/${var.name}/${each.key}"
  retention_in_days = 30
  kms_key_id        = local.key_arn
}
