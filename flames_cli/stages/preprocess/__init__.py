"""What `preprocess` does: decode, gather, split."""
