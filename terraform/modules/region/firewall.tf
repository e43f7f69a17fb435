# The permitted connections. Each flow is written once, and the rules of both ends are generated from it.

locals {
  groups = {
    balancer   = "The only thing that the internet reaches"
    service    = "Service hosts and containers"
    database   = "PostgreSQL, Patroni and etcd"
    monitoring = "Prometheus, Alertmanager and the logs"
    endpoints  = "The cloud's services"
    shell      = "The EC2 Instance Connect Endpoint"
  }

  # Rules cannot refer to groups of another region, so they name the fixed addresses of the other region's hosts.
  outside = {
    internet       = ["0.0.0.0/0"]
    peer_service   = [cidrsubnet(var.peer.cidr, 5, local.tiers.service)]
    peer_databases = [for place in values(local.databases[var.peer.name]) : "${place.address}/32"]
    peer_monitor   = ["${cidrhost(cidrsubnet(var.peer.cidr, 8, 1), local.monitoring_byte)}/32"]
  }

  flows = merge(
    {
      https           = { from = "internet", to = "balancer", ports = [443, 443], why = "Clients" }
      http            = { from = "internet", to = "balancer", ports = [80, 80], why = "Clients, redirected to HTTPS" }
      requests        = { from = "balancer", to = "service", ports = [8080, 8080], why = "Requests and health checks" }
      service_metrics = { from = "monitoring", to = "service", ports = [9080, 9080], why = "Metrics of the service" }
      service_node    = { from = "monitoring", to = "service", ports = [9100, 9100], why = "Metrics of service hosts" }
      sql             = { from = "service", to = "database", ports = [5432, 5432], why = "SQL" }
      replication     = { from = "database", to = "database", ports = [5432, 5432], why = "Replication" }
      patroni         = { from = "database", to = "database", ports = [8008, 8008], why = "Patroni" }
      etcd            = { from = "database", to = "database", ports = [2379, 2380], why = "etcd" }
      backup          = { from = "database", to = "database", ports = [8432, 8432], why = "pgBackRest" }
      database_node   = { from = "monitoring", to = "database", ports = [9100, 9100], why = "Metrics of database hosts" }
      database_sql    = { from = "monitoring", to = "database", ports = [9187, 9187], why = "Metrics of PostgreSQL" }
      patroni_metrics = { from = "monitoring", to = "database", ports = [8008, 8008], why = "Metrics of Patroni" }
      etcd_metrics    = { from = "monitoring", to = "database", ports = [2381, 2381], why = "Metrics of etcd" }
      database_logs   = { from = "database", to = "monitoring", ports = [19532, 19532], why = "Logs" }
      service_logs    = { from = "service", to = "monitoring", ports = [19532, 19532], why = "Logs" }
      database_shell  = { from = "shell", to = "database", ports = [22, 22], why = "Playbooks" }
      monitor_shell   = { from = "shell", to = "monitoring", ports = [22, 22], why = "Playbooks" }
    },
    { for group in ["service", "database", "monitoring"] : "${group}_cloud" =>
      { from = group, to = "endpoints", ports = [443, 443], why = "The cloud's services" }
    },
    {
      sql_out         = { from = "service", to = "peer_databases", ports = [5432, 5432], why = "SQL in the other region" }
      sql_in          = { from = "peer_service", to = "database", ports = [5432, 5432], why = "SQL from the other region" }
      replication_out = { from = "database", to = "peer_databases", ports = [5432, 5432], why = "Replication to the other region" }
      replication_in  = { from = "peer_databases", to = "database", ports = [5432, 5432], why = "Replication from the other region" }
      patroni_out     = { from = "database", to = "peer_databases", ports = [8008, 8008], why = "Who is primary, of the other region" }
      patroni_in      = { from = "peer_databases", to = "database", ports = [8008, 8008], why = "Who is primary, for the other region" }
      watch_out       = { from = "monitoring", to = "peer_databases", ports = [8008, 8008], why = "Watching the other region" }
      watch_in        = { from = "peer_monitor", to = "database", ports = [8008, 8008], why = "Watched by the other region" }
    },
    var.nat ? { for group in ["database", "monitoring"] : "${group}_internet" =>
      { from = group, to = "internet", ports = [443, 443], why = "Debian's archive, and mail or webhooks over HTTPS" }
    } : {},
    var.nat ? { for group in ["database", "monitoring"] : "${group}_archive" =>
      { from = group, to = "internet", ports = [80, 80], why = "Debian's archive, signed" }
    } : {},
    var.nat && var.ecs != null ? {
      service_internet = { from = "service", to = "internet", ports = [443, 443], why = "Container registries" }
    } : {},
  )

  # One rule for each address or group at the far end.
  far_ends = { for end in concat(keys(local.groups), keys(local.outside)) : end => try(local.outside[end], [null]) }
  ingress = merge([for name, flow in local.flows : {
    for cidr in local.far_ends[flow.from] : cidr == null ? name : "${name} ${cidr}" => merge(flow, { cidr = cidr })
  } if contains(keys(local.groups), flow.to)]...)
  egress = merge([for name, flow in local.flows : {
    for cidr in local.far_ends[flow.to] : cidr == null ? name : "${name} ${cidr}" => merge(flow, { cidr = cidr })
  } if contains(keys(local.groups), flow.from)]...)
}

resource "aws_security_group" "this" {
  for_each    = local.groups
  name        = "${local.prefix}-${each.key}"
  description = each.value
  vpc_id      = aws_vpc.this.id
  tags        = { Name = "${local.prefix}-${each.key}" }
}

resource "aws_vpc_security_group_ingress_rule" "this" {
  for_each                     = local.ingress
  security_group_id            = aws_security_group.this[each.value.to].id
  description                  = each.value.why
  ip_protocol                  = "tcp"
  from_port                    = each.value.ports[0]
  to_port                      = each.value.ports[1]
  cidr_ipv4                    = each.value.cidr
  referenced_security_group_id = each.value.cidr == null ? aws_security_group.this[each.value.from].id : null
}

resource "aws_vpc_security_group_egress_rule" "this" {
  for_each                     = local.egress
  security_group_id            = aws_security_group.this[each.value.from].id
  description                  = each.value.why
  ip_protocol                  = "tcp"
  from_port                    = each.value.ports[0]
  to_port                      = each.value.ports[1]
  cidr_ipv4                    = each.value.cidr
  referenced_security_group_id = each.value.cidr == null ? aws_security_group.this[each.value.to].id : null
}

resource "aws_vpc_security_group_egress_rule" "s3" {
  for_each          = toset(["service", "database", "monitoring"])
  security_group_id = aws_security_group.this[each.key].id
  description       = "Buckets, by the gateway endpoint"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  prefix_list_id    = aws_vpc_endpoint.s3.prefix_list_id
}

resource "aws_vpc_security_group_ingress_rule" "packet_size" {
  for_each          = toset(["service", "database", "monitoring"])
  security_group_id = aws_security_group.this[each.key].id
  description       = "How large a packet to the other region may be"
  ip_protocol       = "icmp"
  from_port         = 3
  to_port           = 4
  cidr_ipv4         = var.peer.cidr
}

# A resource without a group gets this one, which allows nothing.
resource "aws_default_security_group" "this" {
  vpc_id = aws_vpc.this.id
  tags   = { Name = "${local.prefix}-unused" }
}
