"""The Hydra launcher: hydra/launcher=sightline."""
