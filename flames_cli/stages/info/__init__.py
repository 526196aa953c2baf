"""`flames info`."""
