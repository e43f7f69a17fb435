variable "name" {
  description = "Name of the bucket, globally unique."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.name))
    error_message = "A bucket's name is 3 to 63 lower-case letters, digits and hyphens: shorten or respell it."
  }
}

variable "encryption" {
  description = "aws:kms, or AES256 if an AWS service that cannot use a key writes to the bucket."
  type        = string
  default     = "aws:kms"

  validation {
    condition     = contains(["aws:kms", "AES256"], var.encryption)
    error_message = "Encryption is aws:kms or AES256."
  }
}

variable "key_arn" {
  description = "The encryption key; null for the account's default key."
  type        = string
  default     = null

  validation {
    condition     = var.key_arn == null || var.encryption == "aws:kms"
    error_message = "A key works only with aws:kms: drop key_arn, or set encryption to aws:kms."
  }
}

variable "lock_days" {
  description = "Days during which no version of an object can be deleted; null for none."
  type        = number
  default     = null

  validation {
    condition     = var.lock_days == null ? true : var.lock_days >= 1
    error_message = "A lock lasts at least one day: set lock_days to 1 or more, or to null."
  }
}

variable "lock_mode" {
  description = "GOVERNANCE: a user with the right to bypass the lock can delete a version. COMPLIANCE: nobody can."
  type        = string
  default     = "GOVERNANCE"

  validation {
    condition     = contains(["GOVERNANCE", "COMPLIANCE"], var.lock_mode)
    error_message = "A lock is GOVERNANCE or COMPLIANCE: set lock_mode to one of them."
  }
}

variable "keep_replaced_days" {
  description = "Days after which replaced or deleted versions are deleted for good."
  type        = number
  default     = 90

  validation {
    condition     = var.keep_replaced_days >= coalesce(var.lock_days, 1)
    error_message = "A locked version cannot be deleted: set keep_replaced_days to lock_days or more."
  }
}

variable "expire_days" {
  description = "Days after which objects are deleted; null for never."
  type        = number
  default     = null

  validation {
    condition     = var.expire_days == null ? true : var.expire_days >= 1
    error_message = "Objects are kept for at least one day: set expire_days to 1 or more, or to null to keep them."
  }
}

variable "policies" {
  description = "Policy documents to add to the bucket's own."
  type        = list(string)
  default     = []
}
