"""The types of all keys that are ours, by section. Each class holds its keys, their rules and its own check."""
