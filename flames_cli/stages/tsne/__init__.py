"""`flames tsne`."""
