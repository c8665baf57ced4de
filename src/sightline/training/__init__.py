"""How a classifier is trained, from a configuration to a measured model."""
