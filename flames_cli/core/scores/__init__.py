"""Scores of predicted masks, their summaries and intervals, and the embedding of images."""
