"""Evaluation of a trained model: predictions of a split, metrics, tables and figures."""
