"""Train an image classifier: python src/train.py experiment=gtsrb"""

import hydra
from omegaconf import DictConfig

from sightline import command
from sightline.metrics import TRAIN_TABLE


@hydra.main(version_base="1.3", config_path="../configs", config_name="train")
@command.task
def main(cfg: DictConfig, invocation: command.Invocation) -> float | None:
    from sightline.training.train import train

    cfg, invocation = command.with_settings_of_run(cfg, invocation)
    result = train(cfg, invocation)
    own = [f"{split}/{name}" for name in cfg.evaluation.metrics for split in ("val", "test")]
    command.print_metrics(result.metrics, (*TRAIN_TABLE, *own), result.run_dir)
    return result.metrics.get(cfg.optimized_metric)


if __name__ == "__main__":
    command.run(main)
