"""Data sets of images: collection, splits, audit, preparation of pixels, and batches."""
