terraform {
  required_version = "~> 1.11"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7"
    }
  }

  # The file that bootstrap writes names the bucket at init.
  backend "s3" {
    key          = "failover.tfstate"
    use_lockfile = true
    encrypt      = true
  }
}
