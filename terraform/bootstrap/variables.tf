variable "region" {
  description = "Where the state is kept."
  type        = string
  default     = "eu-west-1"

  validation {
    condition     = can(regex("^[a-z]{2}-[a-z]+-[0-9]$", var.region))
    error_message = "The region is written like eu-west-1."
  }
}
