"""Where jobs run: what a job is, the backends that run it, and the records of what was submitted."""
