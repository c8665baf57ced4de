"""Hold an evaluated model to its gate, and pack it: python src/gate.py run=EXPORTED evaluated=FOLDER"""

import hydra
from omegaconf import DictConfig

from sightline import command


@hydra.main(version_base="1.3", config_path="../configs", config_name="gate")
@command.task
def main(cfg: DictConfig, invocation: command.Invocation) -> None:
    from sightline.pipeline.gate import gate

    print(gate(cfg, invocation).sentence)


if __name__ == "__main__":
    command.run(main)
