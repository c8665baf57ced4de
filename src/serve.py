"""Serve a trained model: python src/serve.py run=latest"""

import hydra
from omegaconf import DictConfig

from sightline import command


@hydra.main(version_base="1.3", config_path="../configs", config_name="serve")
@command.task
def main(cfg: DictConfig, invocation: command.Invocation) -> None:
    from sightline.serving.serve import serve

    serve(cfg, invocation)


if __name__ == "__main__":
    command.run(main)
