"""The commands of `flames deploy`."""
