"""Classify photos: python src/predict.py run=latest images=FOLDER [endpoint=http://… instead of run]"""

import hydra
from omegaconf import DictConfig

from sightline import command


@hydra.main(version_base="1.3", config_path="../configs", config_name="predict")
@command.task
def main(cfg: DictConfig, invocation: command.Invocation) -> None:
    from sightline.serving.predict import predict

    for line in predict(cfg, invocation).lines():
        print(line)


if __name__ == "__main__":
    command.run(main, positional="images")
