"""Show what a trained model looks at, and how far that can be believed: python src/explain.py run=latest"""

import hydra
from omegaconf import DictConfig

from sightline import command
from sightline.metrics import EXPLAIN_TABLE


@hydra.main(version_base="1.3", config_path="../configs", config_name="explain")
@command.task
def main(cfg: DictConfig, invocation: command.Invocation) -> None:
    from sightline.explanation.explain import explain

    result = explain(cfg, invocation)
    methods = [*cfg.explanation.methods, *cfg.explanation.own]
    names = [f"explanation/{method}/{key}" for method in methods for key in EXPLAIN_TABLE]
    command.print_metrics(result.metrics, tuple(names), result.run_dir)
    if result.unreadable:
        print(f"skipped {len(result.unreadable)} file(s) that cannot be read; run.json names them")


if __name__ == "__main__":
    command.run(main, positional="images")
