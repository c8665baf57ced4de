"""The audit of a data set: every file inspected, findings, and their page."""
