"""What is used of pytorch-lightning below its public surface: a test holds this list against the installed version.

The upper bound in pyproject.toml stays below the next minor version until the test has passed with it.
"""

ATTRIBUTES = {
    "loops.fit_loop._FitLoop": ("_restarting", "epoch_loop", "epoch_progress"),
    "loops.training_epoch_loop._TrainingEpochLoop": (
        "_batches_that_stepped",
        "_results",
        "_should_check_val_epoch",
        "batch_idx",
        "batch_progress",
        "total_batch_idx",
        "val_loop",
    ),
    "loops.evaluation_loop._EvaluationLoop": ("batch_progress",),
    "trainer.trainer.Trainer": ("_checkpoint_connector", "_logger_connector", "val_check_batch"),
    "trainer.connectors.logger_connector.logger_connector._LoggerConnector": ("_callback_metrics",),
    "callbacks.model_checkpoint.ModelCheckpoint": ("_last_global_step_saved", "best_k_models", "dirpath", "state_key"),
    "loggers.tensorboard.TensorBoardLogger": ("_kwargs",),
}
"""Attributes by the class that has them, below `pytorch_lightning`."""
PARAMETERS = {
    "trainer.connectors.checkpoint_connector._CheckpointConnector.dump_checkpoint": ("self", "weights_only"),
    "loops.training_epoch_loop._TrainingEpochLoop._should_check_val_epoch": ("self",),
    "trainer.trainer.Trainer.save_checkpoint": ("self", "filepath", "weights_only", "storage_options"),
    "trainer.trainer.Trainer.fit": (
        *("self", "model", "train_dataloaders", "val_dataloaders", "datamodule", "ckpt_path", "weights_only"),
    ),
}
"""The parameters of what is called."""
CHECKPOINT_KEYS = ("epoch_loop.batch_progress", "epoch_progress", "state_dict")
"""Of the state of the fit loop in a checkpoint."""
