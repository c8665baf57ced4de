"""Collecting images: from folders, tables, archives and remote locations, or downloaded."""
