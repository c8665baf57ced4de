"""Where images are: found in folders, tables and archives, or fetched."""
