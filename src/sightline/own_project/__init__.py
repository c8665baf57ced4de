"""A project of one's own beside Sightline: the template, and what writes it."""
