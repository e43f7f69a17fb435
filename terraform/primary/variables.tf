variable "peering" {
  description = "vpc-… of the other region to ask it for a peering, or pcx-… to accept the one it asked for; null before it exists."
  type        = string
  default     = null
}

variable "domain" {
  description = "Public zone of the service, made by the global root; clients use api.<domain>."
  type        = string
}

variable "ssh_key" {
  description = "Public key of those who run the playbooks; database and monitoring hosts accept it, and are reached through the endpoint alone."
  type        = string
}

variable "size" {
  description = "small: the least that keeps every promise; medium: recommended; large: many millions of users."
  type        = string
  default     = "small"
}

variable "architecture" {
  description = "Processors of all hosts."
  type        = string
  default     = "x86_64"
}

variable "image" {
  description = "Image (ami-…) with which the first service hosts start; null before one is published. Later ones are rolled out by the deploy, and a change here does nothing."
  type        = string
  default     = null
}

variable "ecs" {
  description = "Containers to run as well, or instead: the service's image and the percentage of requests; null for none."
  type = object({
    image  = string
    weight = number
  })
  default = null
}

variable "nat" {
  description = "Whether database and monitoring hosts reach the internet: for the playbooks' first run and for upgrades from Debian's archive."
  type        = bool
  default     = false
}

variable "shell_zone" {
  description = "Number of the zone in which the EC2 Instance Connect Endpoint stands, the way to every shell: name another while that zone is lost."
  type        = number
  default     = 1
}

variable "rate_limit" {
  description = "Requests that one address may send in five minutes, by a web firewall; null for no firewall."
  type        = number
  default     = null
}

variable "alarm_email" {
  description = "Who is told of alarms, after confirming a mail; null for nobody but the topic's other subscribers."
  type        = string
  default     = null
}

variable "access_log_days" {
  description = "Days that the balancer's access logs are kept, which hold addresses and names of users; null for no such logs."
  type        = number
  default     = null
}

variable "backup_lock" {
  description = "GOVERNANCE: an administrator can lift the lock of backups. COMPLIANCE: nobody can, nor destroy their buckets, for 30 days."
  type        = string
  default     = "GOVERNANCE"
}
