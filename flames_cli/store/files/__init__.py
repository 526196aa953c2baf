"""What every file that FLAMES writes needs: atomic replacement, locks, JSON lines, hashes."""
