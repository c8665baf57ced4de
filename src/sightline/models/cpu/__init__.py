"""Convolutions that train faster on processors."""
