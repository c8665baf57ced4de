"""Export a trained model for serving: python src/export.py run=latest"""

import hydra
from omegaconf import DictConfig

from sightline import command


@hydra.main(version_base="1.3", config_path="../configs", config_name="export")
@command.task
def main(cfg: DictConfig, invocation: command.Invocation) -> None:
    from sightline.export.export import export

    result = export(cfg, invocation)
    command.print_metrics(result.numbers, tuple(result.numbers), result.folder)


if __name__ == "__main__":
    command.run(main)
