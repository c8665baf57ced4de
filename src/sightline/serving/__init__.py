"""Using a trained model on new images."""
