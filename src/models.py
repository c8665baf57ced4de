"""List timm's models: python src/models.py 'resnet*' [time=true]"""

import hydra
from omegaconf import DictConfig

from sightline import command


@hydra.main(version_base="1.3", config_path="../configs", config_name="models")
@command.task
def main(cfg: DictConfig, invocation: command.Invocation) -> None:
    from sightline.models.listing import list_models

    list_models(cfg)


if __name__ == "__main__":
    command.run(main, positional="pattern")
