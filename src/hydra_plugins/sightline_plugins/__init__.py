"""Hydra's plugins: hydra/launcher=sightline and hydra/sweeper=sightline."""
