variable "peering" {
  description = "vpc-… of the other region to request a peering, or pcx-… to accept the one that it requested; null before it exists."
  type        = string
  default     = null
}

variable "domain" {
  description = "Public zone of the service, created by the global root; clients use api.<domain>."
  type        = string
}

variable "ssh_key" {
  description = "Public key of the operators who run playbooks; database and monitoring hosts accept it, through the endpoint only."
  type        = string
}

variable "size" {
  description = "small: the smallest that keeps every promise; medium: recommended; large: many millions of users."
  type        = string
  default     = "small"
}

variable "architecture" {
  description = "Processor architecture of all hosts."
  type        = string
  default     = "x86_64"
}

variable "image" {
  description = "Image (ami-…) with which the first service hosts start; null before one is published. Later images arrive by roll-outs; a change here has no effect."
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
  description = "Whether database and monitoring hosts can reach the internet, for the playbooks' first run and for upgrades from Debian's archive."
  type        = bool
  default     = false
}

variable "shell_zone" {
  description = "Number of the zone of the EC2 Instance Connect Endpoint, through which all ssh goes: name another one while that zone is lost."
  type        = number
  default     = 1
}

variable "rate_limit" {
  description = "Requests that the web firewall allows per address in five minutes; null for no firewall."
  type        = number
  default     = null
}

variable "alarm_email" {
  description = "Mail address for alarms, which must confirm a mail first; null for the topic's other subscribers only."
  type        = string
  default     = null
}

variable "access_log_days" {
  description = "Days for which the balancer's access logs are kept, which contain addresses and names of users; null for no access logs."
  type        = number
  default     = null
}

variable "backup_lock" {
  description = "GOVERNANCE: an administrator can lift the lock of backups. COMPLIANCE: for 30 days nobody can, and nobody can destroy the buckets."
  type        = string
  default     = "GOVERNANCE"
}
