"""Models, losses, training and prediction: the home of torch."""
