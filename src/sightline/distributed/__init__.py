"""Distributed training: ranks, the process group, and collective operations."""
