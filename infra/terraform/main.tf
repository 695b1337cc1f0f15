# The bucket of images, models and scores, and two roles: who trains, and who may only score.
#
#   terraform init
#   terraform apply -var bucket=my-visionflows

terraform {
  required_version = ">= 1.6"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.0"
    }
  }
}

variable "bucket" {
  description = "Name of the bucket, unique in the world"
  type        = string
}

variable "trusted_principals" {
  description = "ARNs of who may become the roles; EC2 instances may if empty"
  type        = list(string)
  default     = []
}

variable "eks_oidc_provider" {
  description = "ARN of the cluster's OIDC provider, for the runs of infra/kubernetes on EKS"
  type        = string
  default     = ""
}

variable "service_accounts" {
  description = "Namespace and name of the runs' service accounts on that cluster, by role"
  type        = map(string)
  default = {
    train = "visionflows:visionflows"
    score = "visionflows:visionflows-score"
  }
}

variable "keep_old_versions_days" {
  description = "How long overwritten and deleted objects can be brought back"
  type        = number
  default     = 30
}

resource "aws_s3_bucket" "store" {
  bucket = var.bucket
}

resource "aws_s3_bucket_versioning" "store" {
  bucket = aws_s3_bucket.store.id
  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "store" {
  bucket = aws_s3_bucket.store.id
  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_public_access_block" "store" {
  bucket                  = aws_s3_bucket.store.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_lifecycle_configuration" "store" {
  bucket     = aws_s3_bucket.store.id
  depends_on = [aws_s3_bucket_versioning.store]

  rule {
    id     = "old-versions"
    status = "Enabled"
    filter {}
    noncurrent_version_expiration {
      noncurrent_days = var.keep_old_versions_days
    }
    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }
}

data "aws_iam_policy_document" "tls_only" {
  statement {
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [aws_s3_bucket.store.arn, "${aws_s3_bucket.store.arn}/*"]
    principals {
      type        = "*"
      identifiers = ["*"]
    }
    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_s3_bucket_policy" "store" {
  bucket = aws_s3_bucket.store.id
  policy = data.aws_iam_policy_document.tls_only.json
}

locals {
  # Images are read and never changed. Who trains writes below store/ and scores/; who scores, below
  # scores/ and store/scores/ alone: the role that reads untrusted images cannot change a model.
  policies = {
    for role in ["train", "score"] :
    role => replace(file("${path.module}/../s3/${role}.json"), "arn:aws:s3:::visionflows", aws_s3_bucket.store.arn)
  }
}

data "aws_iam_policy_document" "assume" {
  for_each = local.policies

  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = length(var.trusted_principals) > 0 ? "AWS" : "Service"
      identifiers = length(var.trusted_principals) > 0 ? var.trusted_principals : ["ec2.amazonaws.com"]
    }
  }

  dynamic "statement" {
    for_each = var.eks_oidc_provider == "" ? [] : [split("oidc-provider/", var.eks_oidc_provider)[1]]
    content {
      actions = ["sts:AssumeRoleWithWebIdentity"]
      principals {
        type        = "Federated"
        identifiers = [var.eks_oidc_provider]
      }
      condition {
        test     = "StringEquals"
        variable = "${statement.value}:sub"
        values   = ["system:serviceaccount:${var.service_accounts[each.key]}"]
      }
      condition {
        test     = "StringEquals"
        variable = "${statement.value}:aud"
        values   = ["sts.amazonaws.com"]
      }
    }
  }
}

resource "aws_iam_role" "worker" {
  for_each           = local.policies
  name               = "visionflows-${each.key}"
  assume_role_policy = data.aws_iam_policy_document.assume[each.key].json
}

resource "aws_iam_role_policy" "worker" {
  for_each = local.policies
  name     = "visionflows-store"
  role     = aws_iam_role.worker[each.key].id
  policy   = each.value
}

resource "aws_iam_instance_profile" "worker" {
  for_each = local.policies
  name     = "visionflows-${each.key}"
  role     = aws_iam_role.worker[each.key].name
}

output "store" {
  description = "What VISIONFLOWS_STORE must be"
  value       = "s3://${aws_s3_bucket.store.id}/store"
}

output "role_arns" {
  description = "train: for training, promoting and retraining; score: for scoring"
  value       = { for role, made in aws_iam_role.worker : role => made.arn }
}
