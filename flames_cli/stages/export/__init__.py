"""`flames export`: a model folder of a run's model."""
