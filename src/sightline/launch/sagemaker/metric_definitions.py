"""What CloudWatch finds in a job's output: a name and a pattern for each number that our programs print."""

NUMBER = "([-+]?[0-9][-+.0-9e]*|nan|[-+]?inf)"
EPOCH = ("train/loss", "train/accuracy", "val/loss", "val/accuracy")
"""On the line of each epoch."""
FINAL = ("test/loss", "test/accuracy", "test/macro_f1", "train/images_per_second", "train/seconds")
"""In the table at a training's end."""
EVALUATED = ("accuracy_low", "accuracy_high", "top5_accuracy", "macro_precision", "macro_recall")
"""In the table at an evaluation's end, of test or val, beside those above."""
EXPLAINED = ("insertion_auc", "deletion_auc", "worst_completeness_error", "seconds_per_image")
METHODS = ("integrated_gradients", "grad_cam", "occlusion", "smooth_grad")


def metric_definitions(script: str = "src/train.py") -> list[dict[str, str]]:
    """For a program's job; patterns are matched against one line each."""
    names = [*EPOCH, *FINAL]
    if script.endswith("/evaluate.py"):
        names = [
            f"{split}/{name}" for split in ("test", "val") for name in ("loss", "accuracy", "macro_f1", *EVALUATED)
        ]
    elif script.endswith("/explain.py"):
        names = [f"explanation/{method}/{name}" for method in METHODS for name in EXPLAINED]
    definitions = [{"Name": name, "Regex": rf"(?:^|\s){name}\s+{NUMBER}(?:\s|$)"} for name in names]
    if names[0] == EPOCH[0]:
        definitions.append({"Name": "train/step_loss", "Regex": rf"batch [0-9]+/[0-9]+\s+loss\s+{NUMBER}(?:\s|$)"})
    return definitions
