"""Patterns of AWS names, like roles and image addresses, that settings and infrastructure share."""

import re

BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
ADDRESS = re.compile(rf"s3://{BUCKET.pattern}/.+")
ROLE = re.compile(r"arn:aws[a-z-]*:iam::(\d{12}):role/?[\w+=,.@/-]+")
"""ARN of an IAM role; the group is the account."""
IMAGE = re.compile(r"[a-z0-9][\w.:/-]*(@sha256:[0-9a-f]{64})?", re.ASCII)
PUSHED_IMAGE = re.compile(r"(\d{12})\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(?:\.cn)?/([^:]+):(.+)")
"""An image in a registry of AWS: account, repository, tag."""
RESERVED_TAGS = "aws:"
"""Reserved prefix of the keys of tags."""
