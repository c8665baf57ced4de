"""From data to a registered model, in steps that are jobs of our own programs."""
