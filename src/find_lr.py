"""Find the learning rate of an experiment: python src/find_lr.py experiment=gtsrb"""

import hydra
from omegaconf import DictConfig

from sightline import command

SHOWN = ("lr", "steepest", "tenth_of_divergence")


@hydra.main(version_base="1.3", config_path="../configs", config_name="find_lr")
@command.task
def main(cfg: DictConfig) -> float:
    from sightline.training.lr_finding import find_lr

    result = find_lr(cfg)
    command.print_metrics(result.metrics, SHOWN, result.run_dir)
    return result.metrics["lr"]


if __name__ == "__main__":
    command.run(main)
