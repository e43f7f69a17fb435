# Service hosts: they store nothing, all are equal, and roll-outs replace them.

locals {
  # The settings DOB_API_* and DATABASE_*, without secrets, which the image fetches with the host's role. Databases are listed by
  # address, own region first, so they need no name server; their certificates contain the addresses.
  database_hosts = flatten([for region in [var.name, var.peer.name] : values(local.databases[region])[*].address])
  settings = {
    DATABASE_URL           = "postgres://dob@${join(",", local.database_hosts)}/dob?channel_binding=require"
    DOB_API_LISTEN         = "0.0.0.0:8080"
    DOB_API_WRITE_PATIENCE = "30s"
  }
  # A setting of the image: the monitoring host that reads its metrics and gets its logs, by certificate name and address.
  host_settings = {
    DOB_API_MONITOR = "${var.name}-monitor/${cidrhost(cidrsubnet(var.cidr, 8, tonumber(local.hosts.monitor.zone)), local.monitoring_byte)}"
    DOB_API_THREADS = local.threads
  }
  # With one thread, a busy host uses half of its two processors. That is not above the target, so the group would not grow.
  threads  = local.catalogue.processors[local.size.service]
  launched = var.image == null ? 0 : 1
}

resource "aws_launch_template" "service" {
  count         = local.launched
  name          = local.prefix
  description   = "Service hosts; each roll-out is a version of its own"
  image_id      = var.image
  instance_type = local.types.service
  user_data     = base64encode(join("", [for name, value in merge(local.settings, local.host_settings) : "${name}=${value}\n"]))
  tags          = { Name = local.prefix, Role = "service" }

  instance_initiated_shutdown_behavior = "terminate"
  vpc_security_group_ids               = [aws_security_group.this["service"].id]

  iam_instance_profile {
    arn = aws_iam_instance_profile.this["service"].arn
  }

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  block_device_mappings {
    device_name = "/dev/xvda"

    ebs {
      volume_type           = "gp3"
      volume_size           = 8
      encrypted             = true
      delete_on_termination = true
    }
  }

  monitoring {
    enabled = true
  }

  dynamic "tag_specifications" {
    for_each = toset(["instance", "volume"])

    content {
      resource_type = tag_specifications.key
      tags          = merge(local.tags, { Name = "${local.prefix}-app", Role = "service" })
    }
  }

  lifecycle {
    create_before_destroy = true
    # A roll-out creates a version from the newest one, with another image and description.
    ignore_changes = [image_id, description]
  }
}

resource "aws_autoscaling_group" "service" {
  count               = local.launched
  name                = local.prefix
  min_size            = local.size.hosts[0]
  max_size            = local.size.hosts[1]
  vpc_zone_identifier = local.subnet_ids.service
  target_group_arns   = [aws_lb_target_group.this["hosts"].arn]
  # Checks /healthz, which does not depend on the database.
  health_check_type         = "ELB"
  health_check_grace_period = 120
  default_instance_warmup   = 60
  # The first hosts become healthy only once the databases are up.
  wait_for_capacity_timeout = "0"
  termination_policies      = ["OldestLaunchTemplate", "OldestInstance"]
  enabled_metrics           = ["GroupDesiredCapacity", "GroupInServiceInstances", "GroupTotalInstances"]

  launch_template {
    id      = aws_launch_template.service[0].id
    version = aws_launch_template.service[0].latest_version
  }

  instance_maintenance_policy {
    min_healthy_percentage = 100
    max_healthy_percentage = 200
  }

  dynamic "tag" {
    for_each = merge(local.tags, { Name = "${local.prefix}-app", Role = "service" })

    content {
      key                 = tag.key
      value               = tag.value
      propagate_at_launch = true
    }
  }

  lifecycle {
    # Roll-outs decide which version runs, and the load decides how many hosts.
    ignore_changes = [launch_template, desired_capacity]
  }
}

resource "aws_autoscaling_policy" "service" {
  count                  = local.launched
  name                   = "${local.prefix}-cpu"
  autoscaling_group_name = aws_autoscaling_group.service[0].name
  policy_type            = "TargetTrackingScaling"

  target_tracking_configuration {
    target_value = 50

    predefined_metric_specification {
      predefined_metric_type = "ASGAverageCPUUtilization"
    }
  }
}
