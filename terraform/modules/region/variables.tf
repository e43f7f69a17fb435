variable "name" {
  description = "The region's letter, used in names of hosts such as a-db1."
  type        = string

  validation {
    condition     = can(regex("^[a-z]$", var.name))
    error_message = "A region's name is one lower-case letter, as in a."
  }
}

variable "cidr" {
  description = "Address block of the region's network."
  type        = string

  validation {
    condition     = can(cidrhost(var.cidr, 0)) && endswith(var.cidr, "/16")
    error_message = "The network is a block of 16 bits, as in 10.0.0.0/16."
  }
}

variable "zones" {
  description = "Letters of the three availability zones, in the order in which hosts are numbered."
  type        = list(string)
  default     = ["a", "b", "c"]

  validation {
    condition     = length(distinct(var.zones)) == 3 && alltrue([for zone in var.zones : can(regex("^[a-z]$", zone))])
    error_message = "A region has three zones, each named by its letter: write zones as [\"a\", \"b\", \"c\"] in regions.json."
  }
}

variable "databases" {
  description = "How many database hosts the region has: one in each zone, and more if named."
  type        = number
  default     = 3

  validation {
    condition     = contains(range(3, 10), var.databases)
    error_message = "A region has 3 to 9 database hosts, one in each zone first: correct databases in regions.json."
  }
}

variable "peer" {
  description = "The other region: its letter, where it is, its addresses, and how many database hosts it has."
  type        = object({ name = string, region = string, cidr = string, databases = optional(number, 3) })

  validation {
    condition     = contains(range(3, 10), var.peer.databases)
    error_message = "The other region has 3 to 9 database hosts: correct databases in regions.json."
  }

  validation {
    condition     = can(regex("^[a-z]$", var.peer.name)) && var.peer.name != var.name
    error_message = "The other region needs a different letter: change peer.name or name."
  }

  validation {
    condition     = can(cidrhost(var.peer.cidr, 0)) && endswith(var.peer.cidr, "/16") && try(cidrhost(var.peer.cidr, 0) != cidrhost(var.cidr, 0), true)
    error_message = "The other region needs a different network: set peer.cidr to another block of 16 bits, as in 10.1.0.0/16."
  }
}

variable "peering" {
  description = "vpc-… of the other region to request a peering, or pcx-… to accept the one that it requested; null before it exists."
  type        = string
  default     = null

  validation {
    condition     = var.peering == null ? true : can(regex("^(vpc|pcx)-[0-9a-f]+$", var.peering))
    error_message = "Set peering to the other region's vpc_id (vpc-…) to request one, or to its peering_id (pcx-…) to accept it; its outputs show both."
  }
}

variable "domain" {
  description = "Public zone of the service, created by the global root; clients use api.<domain>."
  type        = string

  validation {
    condition     = can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]{2,}$", var.domain))
    error_message = "The domain is written in lower case without a dot at its end, as in dob.example.com."
  }
}

variable "ssh_key" {
  description = "Public key of the operators who run playbooks; database and monitoring hosts accept it, through the endpoint only."
  type        = string

  validation {
    condition     = can(regex("^(ssh-ed25519|ecdsa-sha2-nistp256) [A-Za-z0-9+/]+=*( .*)?$", var.ssh_key))
    error_message = "The key is the line of an id_ed25519.pub file; RSA keys are not accepted: make one with ssh-keygen -t ed25519."
  }
}

variable "size" {
  description = "small: the smallest that keeps every promise; medium: recommended; large: many millions of users."
  type        = string
  default     = "small"

  validation {
    condition     = contains(["small", "medium", "large"], var.size)
    error_message = "The size is small, medium or large."
  }
}

variable "architecture" {
  description = "Processor architecture of all hosts."
  type        = string
  default     = "x86_64"

  validation {
    condition     = contains(["x86_64", "arm64"], var.architecture)
    error_message = "The architecture is x86_64 or arm64."
  }
}

variable "image" {
  description = "Image (ami-…) with which the first service hosts start; null before one is published. Later images arrive by roll-outs; a change here has no effect."
  type        = string
  default     = null

  validation {
    condition     = var.image == null ? true : can(regex("^ami-[0-9a-f]+$", var.image))
    error_message = "An image is written like ami-0123456789abcdef0: take the one that was published in this region."
  }
}

variable "ecs" {
  description = "Containers to run as well, or instead: the service's image and the percentage of requests; null for none."
  type = object({
    image  = string
    weight = number
  })
  default = null

  validation {
    condition     = var.ecs == null ? true : var.ecs.weight >= 0 && var.ecs.weight <= 100 && floor(var.ecs.weight) == var.ecs.weight
    error_message = "The weight of the containers is a whole percentage from 0 to 100."
  }

  validation {
    condition     = var.ecs == null ? true : can(regex("@sha256:[0-9a-f]{64}$", var.ecs.image))
    error_message = "A container image is named by its digest, as in …/dob-api@sha256:…, so that all tasks run the same."
  }

  validation {
    condition     = var.ecs == null || var.image != null ? true : var.ecs.weight == 100
    error_message = "Without service hosts all requests go to the containers: set the weight to 100, or name an image for hosts."
  }
}

variable "nat" {
  description = "Whether database and monitoring hosts can reach the internet, for the playbooks' first run and for upgrades from Debian's archive."
  type        = bool
  default     = false
}

variable "shell_zone" {
  description = "Number of the zone of the EC2 Instance Connect Endpoint, through which all ssh goes: name another one while that zone is lost."
  type        = number
  default     = 1

  validation {
    condition     = contains([1, 2, 3], var.shell_zone)
    error_message = "The zones are 1, 2 and 3: name one of them."
  }
}

variable "rate_limit" {
  description = "Requests that the web firewall allows per address in five minutes; null for no firewall."
  type        = number
  default     = null

  validation {
    condition     = var.rate_limit == null ? true : var.rate_limit >= 100 && var.rate_limit <= 2000000000
    error_message = "The rate limit is from 100 to 2,000,000,000 requests in five minutes, as many clients may share an address; null for none."
  }
}

variable "alarm_email" {
  description = "Mail address for alarms, which must confirm a mail first; null for the topic's other subscribers only."
  type        = string
  default     = null

  validation {
    condition     = var.alarm_email == null ? true : can(regex("^[^@ ]+@[^@ ]+\\.[^@ ]+$", var.alarm_email))
    error_message = "The address for alarms is written like ops@example.com."
  }
}

variable "access_log_days" {
  description = "Days for which the balancer's access logs are kept, which contain addresses and names of users; null for no access logs."
  type        = number
  default     = null

  validation {
    condition     = var.access_log_days == null ? true : var.access_log_days >= 1 && var.access_log_days <= 30
    error_message = "Logs with names of people are kept for 1 to 30 days; null for no such logs."
  }
}

variable "backup_lock" {
  description = "GOVERNANCE: an administrator can lift the lock of backups. COMPLIANCE: for 30 days nobody can, and nobody can destroy the buckets."
  type        = string
  default     = "GOVERNANCE"

  validation {
    condition     = contains(["GOVERNANCE", "COMPLIANCE"], var.backup_lock)
    error_message = "The lock of backups is GOVERNANCE or COMPLIANCE."
  }
}
