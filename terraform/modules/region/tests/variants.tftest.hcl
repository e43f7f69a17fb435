# What each setting adds, and what is there without any.

mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }

  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }

  mock_data "aws_region" {
    defaults = { id = "eu-west-1" }
  }

  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }

  mock_data "aws_availability_zones" {
    defaults = { names = ["eu-west-1a", "eu-west-1b", "eu-west-1c"] }
  }

  mock_data "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-west-1:123456789012:key/mrk-1" }
  }
}

variables {
  name    = "a"
  cidr    = "10.0.0.0/16"
  peer    = { name = "b", region = "eu-central-1", cidr = "10.1.0.0/16" }
  domain  = "dob.example.com"
  ssh_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA operator"
}

run "a_region_without_settings_has_no_extras" {
  command = plan

  assert {
    condition     = length(aws_nat_gateway.this) + length(aws_route.nat) + length(aws_eip.nat) == 0
    error_message = "there is NAT that nobody asked for"
  }

  assert {
    condition     = length(aws_ecs_service.this) + length(aws_wafv2_web_acl.this) + length(aws_autoscaling_group.service) == 0
    error_message = "there are containers, a web firewall or hosts that nobody asked for"
  }

  assert {
    condition     = length(aws_route.peer) + length(aws_s3_bucket_replication_configuration.copies) == 0
    error_message = "there is a way to a region that was not named"
  }

  assert {
    condition     = [for host in ["db1", "db2", "db3", "monitor"] : aws_instance.this[host].private_ip] == ["10.0.1.11", "10.0.2.11", "10.0.3.11", "10.0.1.31"]
    error_message = "hosts stand at other addresses than the playbooks and the other region know"
  }

  assert {
    condition     = length(aws_cloudwatch_metric_alarm.balancer) == 0
    error_message = "an alarm rings that nobody answers, before there is anybody to answer"
  }

  assert {
    condition     = toset(keys(aws_vpc_endpoint.this)) == toset(["ec2", "ssm", "sns"])
    error_message = "an endpoint is paid for that no host calls, or one is missing"
  }
}

run "names_of_people_are_logged_nowhere_unless_that_is_asked_for" {
  command = plan

  assert {
    condition     = !aws_lb.this.access_logs[0].enabled
    error_message = "the balancer logs the names of users"
  }
}

run "access_logs_that_are_asked_for_are_kept_that_long" {
  command = plan

  variables {
    access_log_days = 7
  }

  assert {
    condition     = aws_lb.this.access_logs[0].enabled && local.buckets.logs.expire_days == 7 && local.buckets.logs.keep_replaced_days == 1
    error_message = "the balancer logs nothing, or its logs are kept for another time"
  }
}

run "backups_can_be_locked_against_everybody" {
  command = plan

  variables {
    backup_lock = "COMPLIANCE"
  }

  assert {
    condition     = alltrue([for name in ["backup", "copies"] : local.buckets[name].lock_days == 30 && module.bucket[name].lock == "COMPLIANCE"])
    error_message = "somebody could delete backups or their copies"
  }
}

run "a_rate_limit_makes_a_web_firewall" {
  command = plan

  variables {
    rate_limit = 2000
  }

  assert {
    condition     = aws_wafv2_web_acl.this[0].rule[*].statement[0].rate_based_statement[0].limit == tolist([2000])
    error_message = "the web firewall does not limit to 2000"
  }

  assert {
    condition = one([
      for rule in aws_wafv2_web_acl.this[0].rule : rule.statement[0].rate_based_statement[0].scope_down_statement[0].not_statement[0].statement[0].byte_match_statement[0]
    ]).search_string == aws_lb_target_group.this["hosts"].health_check[0].path
    error_message = "the web firewall counts the health checks of Route 53, and may take the region out of the DNS"
  }
}

run "nat_is_there_when_asked_for" {
  command = plan

  variables {
    nat = true
  }

  assert {
    condition     = length(aws_nat_gateway.this) == 1 && length(aws_route.nat) == 2
    error_message = "there is no way to the internet"
  }
}

run "an_image_makes_service_hosts" {
  command = plan

  variables {
    image = "ami-0123456789abcdef0"
  }

  assert {
    condition     = aws_launch_template.service[0].metadata_options[0].http_tokens == "required" && aws_autoscaling_group.service[0].health_check_type == "ELB"
    error_message = "hosts answer to IMDSv1, or are not asked for their health"
  }

  assert {
    condition     = base64decode(aws_launch_template.service[0].user_data) == <<-EOT
      DATABASE_URL=postgres://dob@10.0.1.11,10.0.2.11,10.0.3.11,10.1.1.11,10.1.2.11,10.1.3.11/dob?channel_binding=require
      DOB_API_LISTEN=0.0.0.0:8080
      DOB_API_MONITOR=a-monitor/10.0.1.31
      DOB_API_THREADS=2
      DOB_API_WRITE_PATIENCE=30s
    EOT
    error_message = "hosts get other settings, or a secret"
  }

  # All serving threads busy, and nothing else: the least that a host shows when it can take no more.
  assert {
    condition = alltrue([
      for size in local.catalogue.sizes :
      100 * local.threads / local.catalogue.processors[size.service] > 1.2 * aws_autoscaling_policy.service[0].target_tracking_configuration[0].target_value
    ])
    error_message = "hosts that can take no more do not show what makes the group grow"
  }

  assert {
    condition     = toset(keys(aws_cloudwatch_metric_alarm.balancer)) == toset(["errors", "refused", "slow", "unhealthy"])
    error_message = "nothing rolls a bad version back"
  }
}

run "containers_share_the_requests_by_their_weight" {
  command = plan

  variables {
    image = "ami-0123456789abcdef0"
    ecs   = { image = "r/dob-api@sha256:0000000000000000000000000000000000000000000000000000000000000000", weight = 30 }
  }

  assert {
    condition     = local.targets.hosts.weight == 70 && local.targets.tasks.weight == 30
    error_message = "requests are shared otherwise than by the weight"
  }

  assert {
    condition     = aws_ecs_service.this[0].network_configuration[0].assign_public_ip == false
    error_message = "containers have public addresses"
  }

  assert {
    condition     = contains(keys(aws_vpc_endpoint.this), "ecr.api") && contains(keys(aws_vpc_endpoint.this), "ecr.dkr")
    error_message = "containers cannot reach their registry"
  }

  assert {
    condition     = contains(keys(aws_vpc_endpoint.this), "logs") && aws_ecr_repository.this.name == "dob-api"
    error_message = "containers cannot write their log, or have no registry"
  }
}

run "containers_alone_need_no_hosts" {
  command = plan

  variables {
    ecs = { image = "r/dob-api@sha256:0000000000000000000000000000000000000000000000000000000000000000", weight = 100 }
  }

  assert {
    condition     = length(aws_autoscaling_group.service) == 0 && local.targets.tasks.weight == 100
    error_message = "there are hosts, or requests go to them"
  }
}

run "a_region_that_knows_the_others_network_asks_for_a_peering" {
  command = plan

  variables {
    peering = "vpc-0123456789abcdef0"
  }

  assert {
    condition     = length(aws_vpc_peering_connection.this) == 1 && length(aws_vpc_peering_connection_accepter.this) == 0 && length(aws_route.peer) == 2
    error_message = "no peering is asked for, or no route leads over it"
  }
}

run "a_region_that_was_asked_accepts" {
  command = plan

  variables {
    peering = "pcx-0123456789abcdef0"
  }

  assert {
    condition     = length(aws_vpc_peering_connection.this) == 0 && length(aws_vpc_peering_connection_accepter.this) == 1 && length(aws_route.peer) == 2
    error_message = "no peering is accepted, or no route leads over it"
  }
}

run "a_fourth_database_host_stands_beside_the_first_in_every_list" {
  command = plan

  variables {
    image     = "ami-0123456789abcdef0"
    databases = 4
    peer      = { name = "b", region = "eu-central-1", cidr = "10.1.0.0/16", databases = 5 }
  }

  assert {
    condition     = aws_instance.this["db4"].private_ip == "10.0.1.14" && aws_ebs_volume.data["db4"].availability_zone == "eu-west-1a"
    error_message = "the fourth database host stands elsewhere than beside the first"
  }

  assert {
    condition     = strcontains(base64decode(aws_launch_template.service[0].user_data), "@10.0.1.11,10.0.2.11,10.0.3.11,10.0.1.14,10.1.1.11,10.1.2.11,10.1.3.11,10.1.1.14,10.1.2.14/dob")
    error_message = "the services do not know all database hosts"
  }

  assert {
    condition     = aws_route53_record.host["b-db5"].records == toset(["10.1.2.14"]) && !contains(keys(aws_route53_record.host), "a-db5")
    error_message = "a host has no name, or a name has no host"
  }

  assert {
    condition     = contains(keys(aws_vpc_security_group_ingress_rule.this), "replication_in 10.1.2.14/32")
    error_message = "a database host of the other region is shut out"
  }
}

run "the_way_to_a_shell_moves_out_of_a_lost_zone" {
  command = plan

  variables {
    shell_zone = 2
  }

  assert {
    condition     = aws_subnet.this[local.shell_subnet].availability_zone == "eu-west-1b"
    error_message = "the endpoint stands in another zone than was named"
  }
}

run "zones_are_numbered_in_the_order_in_which_they_are_named" {
  command = plan

  variables {
    zones = ["c", "a", "b"]
  }

  assert {
    condition     = [for name in ["data1", "data2", "data3"] : aws_subnet.this[name].availability_zone] == ["eu-west-1c", "eu-west-1a", "eu-west-1b"]
    error_message = "subnets stand in other zones than regions.json numbers"
  }
}
