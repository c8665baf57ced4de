"""Images: finding them, splitting them, preparing their pixels, and batches of them."""
