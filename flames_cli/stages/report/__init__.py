"""`flames report`."""
