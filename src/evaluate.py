"""Measure a trained model: python src/evaluate.py run=latest [data.root=FOLDER]"""

import hydra
from omegaconf import DictConfig

from sightline import command
from sightline.metrics import EVALUATE_TABLE


@hydra.main(version_base="1.3", config_path="../configs", config_name="evaluate")
@command.task
def main(cfg: DictConfig, invocation: command.Invocation) -> None:
    from sightline.evaluation.evaluate import evaluate

    result = evaluate(cfg, invocation)
    names = tuple(f"{cfg.split}/{name}" for name in EVALUATE_TABLE)
    command.print_metrics(result.metrics, (*names, *result.own_metrics), result.run_dir)


if __name__ == "__main__":
    command.run(main)
