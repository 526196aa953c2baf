"""The stages of `flames deploy`."""
