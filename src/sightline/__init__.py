"""Sightline: image-classification research with Lightning and Hydra."""
