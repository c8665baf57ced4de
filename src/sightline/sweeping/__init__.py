"""Search over settings: Optuna's ask-and-tell over the verbs of a backend."""
