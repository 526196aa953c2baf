"""Writers of masks and probabilities in the formats and the geometry of the images that they belong to."""
