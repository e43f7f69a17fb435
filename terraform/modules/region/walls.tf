# A second barrier: a subnet's network ACL, in case a group is opened by mistake. It is stateless, so answers need separate
# rules: to a client's port from 1024, to a port of our hosts from 32768.

locals {
  here  = var.cidr
  there = var.peer.cidr
  peer  = { for tier, number in local.tiers : tier => cidrsubnet(var.peer.cidr, 5, number) }

  # Packets between regions are smaller than within one; this message tells a host.
  packet_size = { cidr = "0.0.0.0/0", ports = [0, 0], protocol = "icmp", icmp_type = 3, icmp_code = 4 }

  walls = {
    public = {
      ingress = concat(
        [
          { cidr = "0.0.0.0/0", ports = [443, 443] },
          { cidr = "0.0.0.0/0", ports = [80, 80] },
          { cidr = local.here, ports = [1024, 65535] },
        ],
        var.nat ? [{ cidr = "0.0.0.0/0", ports = [1024, 65535] }] : [],
      )
      egress = concat(
        [
          { cidr = local.tier_cidrs.service, ports = [8080, 8080] },
          { cidr = "0.0.0.0/0", ports = [1024, 65535] },
        ],
        var.nat ? [for port in [80, 443] : { cidr = "0.0.0.0/0", ports = [port, port] }] : [],
      )
    }
    service = {
      ingress = [
        { cidr = local.tier_cidrs.public, ports = [8080, 8080] },
        { cidr = local.tier_cidrs.data, ports = [9080, 9100] },
        { cidr = local.here, ports = [443, 443] },
        { cidr = local.there, ports = [32768, 65535] },
        { cidr = "0.0.0.0/0", ports = [32768, 65535] },
      ]
      egress = [
        { cidr = local.tier_cidrs.data, ports = [5432, 5432] },
        { cidr = local.peer.data, ports = [5432, 5432] },
        { cidr = local.tier_cidrs.data, ports = [19532, 19532] },
        { cidr = "0.0.0.0/0", ports = [443, 443] },
        { cidr = local.here, ports = [1024, 65535] },
      ]
    }
    data = {
      ingress = [
        { cidr = local.tier_cidrs.data, ports = [0, 65535] },
        { cidr = local.tier_cidrs.service, ports = [5432, 5432] },
        { cidr = local.peer.service, ports = [5432, 5432] },
        { cidr = local.peer.data, ports = [5432, 5432] },
        { cidr = local.peer.data, ports = [8008, 8008] },
        { cidr = local.tier_cidrs.service, ports = [19532, 19532] },
        { cidr = "0.0.0.0/0", ports = [32768, 65535] },
      ]
      egress = [
        { cidr = local.tier_cidrs.data, ports = [0, 65535] },
        { cidr = local.tier_cidrs.service, ports = [9080, 9100] },
        { cidr = local.peer.data, ports = [5432, 5432] },
        { cidr = local.peer.data, ports = [8008, 8008] },
        { cidr = "0.0.0.0/0", ports = [443, 443] },
        { cidr = "0.0.0.0/0", ports = [80, 80] },
        { cidr = local.here, ports = [32768, 65535] },
        { cidr = local.there, ports = [32768, 65535] },
      ]
    }
  }
}

resource "aws_network_acl" "this" {
  for_each   = local.walls
  vpc_id     = aws_vpc.this.id
  subnet_ids = local.subnet_ids[each.key]
  tags       = { Name = "${local.prefix}-${each.key}" }

  dynamic "ingress" {
    for_each = concat([local.packet_size], each.value.ingress)

    content {
      rule_no    = 100 + 10 * ingress.key
      action     = "allow"
      protocol   = try(ingress.value.protocol, "tcp")
      icmp_type  = try(ingress.value.icmp_type, null)
      icmp_code  = try(ingress.value.icmp_code, null)
      cidr_block = ingress.value.cidr
      from_port  = ingress.value.ports[0]
      to_port    = ingress.value.ports[1]
    }
  }

  dynamic "egress" {
    for_each = each.value.egress

    content {
      rule_no    = 100 + 10 * egress.key
      action     = "allow"
      protocol   = "tcp"
      cidr_block = egress.value.cidr
      from_port  = egress.value.ports[0]
      to_port    = egress.value.ports[1]
    }
  }
}

resource "aws_default_network_acl" "this" {
  default_network_acl_id = aws_vpc.this.default_network_acl_id
  tags                   = { Name = "${local.prefix}-unused" }
}
