"""The Hydra sweeper: hydra/sweeper=sightline."""
