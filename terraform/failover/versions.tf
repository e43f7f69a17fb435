terraform {
  required_version = "~> 1.11"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7"
    }
  }

  # The bucket is named at init, by the file that bootstrap writes.
  backend "s3" {
    key          = "failover.tfstate"
    use_lockfile = true
    encrypt      = true
  }
}
