"""Hydra's doors: hydra/launcher=sightline and hydra/sweeper=sightline."""
