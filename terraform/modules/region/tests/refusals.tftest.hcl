# Every input that is refused, each by the sentence of its own variable.

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

run "a_region_of_two_letters_is_refused" {
  command         = plan
  expect_failures = [var.name]

  variables {
    name = "ab"
  }
}

run "a_network_that_is_too_small_is_refused" {
  command         = plan
  expect_failures = [var.cidr]

  variables {
    cidr = "10.0.0.0/24"
  }
}

run "a_network_that_is_none_is_refused" {
  command         = plan
  expect_failures = [var.cidr]

  variables {
    cidr = "10.0.0.0.0/16"
  }
}

run "two_regions_with_the_same_network_is_refused" {
  command         = plan
  expect_failures = [var.peer]

  variables {
    peer = { name = "b", region = "eu-central-1", cidr = "10.0.0.0/16" }
  }
}

run "a_network_of_another_size_in_the_other_region_is_refused" {
  command         = plan
  expect_failures = [var.peer]

  variables {
    peer = { name = "b", region = "eu-central-1", cidr = "10.1.0.0/20" }
  }
}

run "two_regions_with_the_same_name_is_refused" {
  command         = plan
  expect_failures = [var.peer]

  variables {
    peer = { name = "a", region = "eu-central-1", cidr = "10.1.0.0/16" }
  }
}

run "a_peering_that_is_neither_network_nor_peering_is_refused" {
  command         = plan
  expect_failures = [var.peering]

  variables {
    peering = "subnet-1"
  }
}

run "a_domain_that_ends_with_a_dot_is_refused" {
  command         = plan
  expect_failures = [var.domain]

  variables {
    domain = "dob.example.com."
  }
}

run "an_rsa_key_is_refused" {
  command         = plan
  expect_failures = [var.ssh_key]

  variables {
    ssh_key = "ssh-rsa AAAAB3NzaC1yc2E operator"
  }
}

run "a_private_key_is_refused" {
  command         = plan
  expect_failures = [var.ssh_key]

  variables {
    ssh_key = "-----BEGIN OPENSSH PRIVATE KEY-----"
  }
}

run "a_size_there_is_not_is_refused" {
  command         = plan
  expect_failures = [var.size]

  variables {
    size = "huge"
  }
}

run "an_architecture_there_is_not_is_refused" {
  command         = plan
  expect_failures = [var.architecture]

  variables {
    architecture = "riscv64"
  }
}

run "an_image_by_its_name_is_refused" {
  command         = plan
  expect_failures = [var.image]

  variables {
    image = "dob-api-1.0"
  }
}

run "a_weight_above_a_hundred_is_refused" {
  command         = plan
  expect_failures = [var.ecs]

  variables {
    ecs = { image = "r/dob-api@sha256:0000000000000000000000000000000000000000000000000000000000000000", weight = 101 }
  }
}

run "a_broken_weight_is_refused" {
  command         = plan
  expect_failures = [var.ecs]

  variables {
    ecs = { image = "r/dob-api@sha256:0000000000000000000000000000000000000000000000000000000000000000", weight = 0.5 }
  }
}

run "containers_by_a_tag_is_refused" {
  command         = plan
  expect_failures = [var.ecs]

  variables {
    ecs = { image = "r/dob-api:latest", weight = 100 }
  }
}

run "requests_to_nobody_is_refused" {
  command         = plan
  expect_failures = [var.ecs]

  variables {
    ecs = { image = "r/dob-api@sha256:0000000000000000000000000000000000000000000000000000000000000000", weight = 50 }
  }
}

run "a_rate_limit_below_what_the_firewall_takes_is_refused" {
  command         = plan
  expect_failures = [var.rate_limit]

  variables {
    rate_limit = 5
  }
}

run "alarms_to_a_name_is_refused" {
  command         = plan
  expect_failures = [var.alarm_email]

  variables {
    alarm_email = "operator"
  }
}

run "a_region_of_two_zones_is_refused" {
  command         = plan
  expect_failures = [aws_vpc.this]

  override_data {
    target = data.aws_availability_zones.this
    values = { names = ["eu-west-1a", "eu-west-1b"] }
  }
}

run "a_zone_that_is_named_twice_is_refused" {
  command         = plan
  expect_failures = [var.zones]

  variables {
    zones = ["a", "a", "b"]
  }
}

run "fewer_database_hosts_than_zones_is_refused" {
  command         = plan
  expect_failures = [var.databases]

  variables {
    databases = 2
  }
}

run "a_broken_number_of_database_hosts_is_refused" {
  command         = plan
  expect_failures = [var.databases]

  variables {
    databases = 3.5
  }
}

run "fewer_database_hosts_than_zones_in_the_other_region_is_refused" {
  command         = plan
  expect_failures = [var.peer]

  variables {
    peer = { name = "b", region = "eu-central-1", cidr = "10.1.0.0/16", databases = 0 }
  }
}

run "a_shell_in_a_zone_there_is_not_is_refused" {
  command         = plan
  expect_failures = [var.shell_zone]

  variables {
    shell_zone = 4
  }
}

run "a_rate_limit_that_blocks_clients_behind_one_address_is_refused" {
  command         = plan
  expect_failures = [var.rate_limit]

  variables {
    rate_limit = 30
  }
}

run "logs_with_names_for_longer_than_a_month_is_refused" {
  command         = plan
  expect_failures = [var.access_log_days]

  variables {
    access_log_days = 31
  }
}

run "a_lock_of_backups_that_there_is_not_is_refused" {
  command         = plan
  expect_failures = [var.backup_lock]

  variables {
    backup_lock = "NONE"
  }
}
