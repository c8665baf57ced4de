"""What the images are worth: every file looked at, findings, and their page."""
