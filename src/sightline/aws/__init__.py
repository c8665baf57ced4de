"""Amazon Web Services: clients, S3, logs, prices, the check of requests. boto3 inside functions."""
