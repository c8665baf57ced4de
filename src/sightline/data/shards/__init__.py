"""Data sets packed into shards, and read from them."""
