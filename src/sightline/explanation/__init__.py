"""Which parts of an image made a model say what it says, with numbers for how far each map can be believed."""
