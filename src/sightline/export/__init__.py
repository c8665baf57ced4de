"""A trained model as files that others run: written, compared with the network, and described."""
