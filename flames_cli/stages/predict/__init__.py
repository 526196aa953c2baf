"""`flames predict`: masks of new images by trained models."""
