"""Fetch, audit and split a data set: python src/prepare.py data=gtsrb"""

import hydra
from omegaconf import DictConfig

from sightline import command


@hydra.main(version_base="1.3", config_path="../configs", config_name="prepare")
@command.task
def main(cfg: DictConfig, invocation: command.Invocation) -> None:
    from sightline.data.prepare import describe, prepare

    if cfg.dry_run:
        print(describe(cfg))
        return
    result = prepare(cfg, invocation)
    command.print_metrics(result.metrics, tuple(result.metrics), result.run_dir)


if __name__ == "__main__":
    command.run(main)
