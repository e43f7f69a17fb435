# Three zones. Only the balancer, and the NAT gateway if it is enabled, are in public subnets.

locals {
  zones = { for index, letter in var.zones : index + 1 => "${local.region}${letter}" }

  # A tier is a block of 21 bits, so that one rule names it in all zones; a subnet's third byte ends with its zone.
  tiers      = { data = 0, service = 1, public = 2 }
  tier_cidrs = { for tier, number in local.tiers : tier => cidrsubnet(var.cidr, 5, number) }
  subnets = merge([for tier, number in local.tiers : {
    for zone, place in local.zones : "${tier}${zone}" => {
      tier = tier
      zone = place
      cidr = cidrsubnet(var.cidr, 8, 10 * number + zone)
    }
  }]...)
  subnet_ids = { for tier in keys(local.tiers) : tier => [for name, subnet in local.subnets : aws_subnet.this[name].id if subnet.tier == tier] }
}

resource "aws_vpc" "this" {
  cidr_block           = var.cidr
  enable_dns_support   = true
  enable_dns_hostnames = true
  tags                 = { Name = local.prefix }

  lifecycle {
    precondition {
      condition     = length(setsubtract(values(local.zones), data.aws_availability_zones.this.names)) == 0
      error_message = "${local.region} has not all of the availability zones ${join(", ", var.zones)} for this account: name other zones, or another region, in regions.json."
    }
  }
}

resource "aws_subnet" "this" {
  for_each                = local.subnets
  vpc_id                  = aws_vpc.this.id
  availability_zone       = each.value.zone
  cidr_block              = each.value.cidr
  map_public_ip_on_launch = false
  tags                    = { Name = "${local.prefix}-${each.key}" }
}

resource "aws_internet_gateway" "this" {
  vpc_id = aws_vpc.this.id
  tags   = { Name = local.prefix }
}

resource "aws_route_table" "this" {
  for_each = local.tiers
  vpc_id   = aws_vpc.this.id
  tags     = { Name = "${local.prefix}-${each.key}" }
}

resource "aws_route_table_association" "this" {
  for_each       = local.subnets
  subnet_id      = aws_subnet.this[each.key].id
  route_table_id = aws_route_table.this[each.value.tier].id
}

resource "aws_route" "internet" {
  route_table_id         = aws_route_table.this["public"].id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.this.id
}

# One NAT gateway, in zone 1: only installations and upgrades use it, so it need not survive the loss of a zone.
resource "aws_eip" "nat" {
  count      = var.nat ? 1 : 0
  depends_on = [aws_internet_gateway.this]
  domain     = "vpc"
  tags       = { Name = "${local.prefix}-nat" }
}

resource "aws_nat_gateway" "this" {
  count         = var.nat ? 1 : 0
  allocation_id = aws_eip.nat[0].id
  subnet_id     = aws_subnet.this["public1"].id
  tags          = { Name = local.prefix }
}

resource "aws_route" "nat" {
  for_each               = toset(var.nat ? ["data", "service"] : [])
  route_table_id         = aws_route_table.this[each.key].id
  destination_cidr_block = "0.0.0.0/0"
  nat_gateway_id         = aws_nat_gateway.this[0].id
}

resource "aws_flow_log" "this" {
  vpc_id          = aws_vpc.this.id
  traffic_type    = "REJECT"
  iam_role_arn    = aws_iam_role.this["flow-logs"].arn
  log_destination = aws_cloudwatch_log_group.this["flow"].arn
  tags            = { Name = local.prefix }
}
