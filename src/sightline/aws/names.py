"""What AWS calls its things: patterns of names that settings and infrastructure share."""

import re

BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
ADDRESS = re.compile(rf"s3://{BUCKET.pattern}/.+")
ROLE = re.compile(r"arn:aws[a-z-]*:iam::(\d{12}):role/?[\w+=,.@/-]+")
"""The group is the account."""
IMAGE = re.compile(r"[a-z0-9][\w.:/-]*(@sha256:[0-9a-f]{64})?", re.ASCII)
PUSHED_IMAGE = re.compile(r"(\d{12})\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(?:\.cn)?/([^:]+):(.+)")
"""An image in a registry of AWS: account, repository, tag."""
RESERVED_TAGS = "aws:"
"""How the keys of tags must not begin."""
