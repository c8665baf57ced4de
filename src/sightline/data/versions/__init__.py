"""Versions of data sets: named manifests over images that are stored once by their hash."""
