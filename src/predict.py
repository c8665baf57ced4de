"""Classify photos: python src/predict.py run=latest images=FOLDER [pictures=true]"""

import hydra
from omegaconf import DictConfig

from sightline import command

SHOWN = 10


@hydra.main(version_base="1.3", config_path="../configs", config_name="predict")
@command.task
def main(cfg: DictConfig, invocation: command.Invocation) -> None:
    from sightline.serving.predict import predict

    result = predict(cfg, invocation)
    for file, ranked in list(zip(result.files, result.classes, strict=True))[:SHOWN]:
        print(f"{ranked[0][1]:6.1%}  {ranked[0][0]}  {command.to_text(file.name)}")
    if len(result.files) > SHOWN:
        print(f"… and {len(result.files) - SHOWN} more in predictions.csv")
    if result.unreadable:
        print(f"skipped {len(result.unreadable)} file(s) that cannot be read; run.json names them")
    note = "" if result.is_calibrated else ", uncalibrated"
    print(f"results: {result.run_dir / 'predictions.csv'} ({len(result.files)} image(s){note})")


if __name__ == "__main__":
    command.run(main, positional="images")
