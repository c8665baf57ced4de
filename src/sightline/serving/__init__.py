"""Inference: a trained model on new images."""
