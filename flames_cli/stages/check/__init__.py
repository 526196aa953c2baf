"""What `check` does: inspect cases, survey them, find what is wrong, show it."""
