"""Launching: jobs, the backends that run them, submission and its records."""
