"""Tools for every file that FLAMES writes: atomic replacement, locks, JSON lines, hashes."""
