"""The run folder: its record, what its files tell, and how files are written."""
