"""`flames demo`."""
