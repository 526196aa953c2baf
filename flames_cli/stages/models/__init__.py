"""`flames models`: the model folders of a workspace."""
