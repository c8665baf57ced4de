"""Write a project of one's own beside Sightline: python src/new.py NAME"""

import hydra
from omegaconf import DictConfig

from sightline import command


@hydra.main(version_base="1.3", config_path="../configs", config_name="new")
@command.task
def main(cfg: DictConfig, invocation: command.Invocation) -> None:
    from sightline.own_project.new import new

    print(f"project: {new(cfg.name, cfg.into)}")


if __name__ == "__main__":
    command.run(main, positional="name")
