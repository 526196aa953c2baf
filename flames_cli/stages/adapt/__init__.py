"""`flames adapt`: a model for one hospital, made of a trained model and the hospital's own images."""
