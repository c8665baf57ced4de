"""Measuring a trained model: predictions of a split, the numbers that follow from them, tables and pictures."""
