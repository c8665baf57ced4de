"""Find the learning rate of an experiment: python src/find_lr.py experiment=gtsrb"""

import hydra
from omegaconf import DictConfig

from sightline import command
from sightline.metrics import FIND_LR_TABLE


@hydra.main(version_base="1.3", config_path="../configs", config_name="find_lr")
@command.task
def main(cfg: DictConfig, invocation: command.Invocation) -> float:
    from sightline.training.find_lr import find_lr

    result = find_lr(cfg, invocation)
    command.print_metrics(result.metrics, FIND_LR_TABLE, result.run_dir)
    print(f"suggested: {result.suggested}")
    return result.metrics["lr"]


if __name__ == "__main__":
    command.run(main)
