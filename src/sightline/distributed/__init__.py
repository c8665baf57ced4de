"""One training in several processes: which one this is, how they meet, and what they agree on."""
