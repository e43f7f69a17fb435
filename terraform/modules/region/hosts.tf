# Hosts with data: a database host in each zone, and a monitoring host. Each has a fixed address and a data volume that
# outlives it, so a replacement host finds the data.

locals {
  monitoring_byte = 31
  # Database hosts of both regions, by their addresses. A fourth host is in zone 1 beside the first, a fifth in zone 2, and so on.
  networks = {
    (var.name)      = { cidr = var.cidr, databases = var.databases }
    (var.peer.name) = { cidr = var.peer.cidr, databases = var.peer.databases }
  }
  databases = { for region, network in local.networks : region => {
    for number in range(1, network.databases + 1) : "db${number}" => {
      zone    = (number - 1) % 3 + 1
      byte    = 11 + 3 * floor((number - 1) / 3)
      address = cidrhost(cidrsubnet(network.cidr, 8, (number - 1) % 3 + 1), 11 + 3 * floor((number - 1) / 3))
    }
  } }

  hosts = merge(
    { for name, place in local.databases[var.name] : name => {
      role   = "database"
      zone   = tostring(place.zone)
      byte   = place.byte
      type   = local.types.database
      volume = local.size.database_volume
      mount  = "/var/lib/postgresql"
    } },
    { monitor = {
      role   = "monitoring"
      zone   = "1"
      byte   = local.monitoring_byte
      type   = local.types.monitoring
      volume = 20
      mount  = "/var/lib/prometheus"
    } },
  )
}

# Debian's official images; only new hosts get a newer one.
data "aws_ami" "debian" {
  owners      = ["136693071363"]
  most_recent = true

  filter {
    name   = "name"
    values = ["debian-13-${var.architecture == "arm64" ? "arm64" : "amd64"}-*"]
  }
}

resource "aws_key_pair" "this" {
  key_name   = local.prefix
  public_key = var.ssh_key
}

resource "aws_ebs_volume" "data" {
  for_each          = local.hosts
  availability_zone = local.zones[each.value.zone]
  type              = "gp3"
  size              = each.value.volume
  encrypted         = true
  kms_key_id        = local.key_arn
  tags              = merge(local.tags, { Name = "${local.prefix}-${each.key}", Role = each.value.role })

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_instance" "this" {
  for_each                = local.hosts
  ami                     = data.aws_ami.debian.id
  instance_type           = each.value.type
  subnet_id               = aws_subnet.this["data${each.value.zone}"].id
  private_ip              = cidrhost(aws_subnet.this["data${each.value.zone}"].cidr_block, each.value.byte)
  vpc_security_group_ids  = [aws_security_group.this[each.value.role].id]
  iam_instance_profile    = aws_iam_instance_profile.this[each.value.role].name
  key_name                = aws_key_pair.this.key_name
  monitoring              = true
  ebs_optimized           = true
  disable_api_termination = true
  # A change of type stops a host. The playbook resize gives each host the type in its tag, one host after another; Terraform would
  # stop all of them at once.
  tags = merge(local.tags, { Name = "${local.prefix}-${each.key}", Role = each.value.role, Type = each.value.type })

  # An empty volume gets a file system; one with data is mounted as it is.
  user_data = <<-EOT
    #!/bin/sh
    set -eu
    volume=/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_${replace(aws_ebs_volume.data[each.key].id, "-", "")}
    echo "$volume ${each.value.mount} ext4 nofail,x-systemd.makefs,x-systemd.growfs,x-systemd.device-timeout=15min 0 2" >>/etc/fstab
    systemctl daemon-reload
    systemctl start "$(systemd-escape --path --suffix=mount ${each.value.mount})"
  EOT

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  root_block_device {
    volume_type = "gp3"
    volume_size = 10
    encrypted   = true
    kms_key_id  = local.key_arn
    tags        = merge(local.tags, { Name = "${local.prefix}-${each.key}-root", Role = each.value.role })
  }

  lifecycle {
    ignore_changes = [ami, user_data, instance_type]
  }
}

resource "aws_volume_attachment" "data" {
  for_each    = local.hosts
  instance_id = aws_instance.this[each.key].id
  volume_id   = aws_ebs_volume.data[each.key].id
  device_name = "/dev/sdf"
  # Detached only from a stopped host, so that no write is torn.
  stop_instance_before_detaching = true
}
