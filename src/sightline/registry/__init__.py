"""Trained models by name and version: packages, stages, and what `registry:NAME` means."""
