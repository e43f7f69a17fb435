variable "domain" {
  description = "Public zone of the service, created here; clients use api.<domain>."
  type        = string

  validation {
    condition     = can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]{2,}$", var.domain))
    error_message = "The domain is written in lower case without a dot at its end, as in dob.example.com."
  }
}

variable "repository" {
  description = "Where the workflows run, as owner/name or, with the numbers of both, owner@1234/name@5678; only they may assume the roles created here."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9-]+(/[A-Za-z0-9._-]+|@[0-9]+/[A-Za-z0-9._-]+@[0-9]+)$", var.repository))
    error_message = "The repository is written like owner/name, or like owner@1234/name@5678, without a star."
  }
}
