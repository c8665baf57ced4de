"""Images per second of train.py's own fit against the bare PyTorch step, side by side in one process.

    python scripts/benchmark.py [model.name=resnet18 data.image_size=64 data.batch_size=128 …]

Both sides train the same network on synthetic images with the same size, batch, precision, memory format and optimizer.
The bare side is the loop that one would write by hand: forward, loss, backward, step, on one batch that is ready in
memory. Ours is `train(cfg)` with its default callbacks, logger and progress bar, as
`train/images_per_second` counts it.
The two take turns, and the ratio is taken turn by turn, because shared machines drift.
"""

import argparse
import platform
import statistics
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT / "src"))

import torch  # noqa: E402
from hydra import compose, initialize_config_dir  # noqa: E402
from omegaconf import DictConfig  # noqa: E402

from sightline.config import build, model_arguments  # noqa: E402
from sightline.models.backbones import create_backbone  # noqa: E402
from sightline.models.inference import autocast, choose_device, choose_precision  # noqa: E402
from sightline.training import NUM_SYNTHETIC_CLASSES, train  # noqa: E402

WARM_UP = 10
"""Steps that neither side counts."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="as on the command line of train.py")
    parser.add_argument("--turns", type=int, default=5, help="how often the two sides alternate (default 5)")
    parser.add_argument("--steps", type=int, default=30, help="counted steps of each side in a turn (default 30)")
    arguments = parser.parse_args()
    cfg = compose_synthetic(arguments.overrides, arguments.steps)
    device = choose_device(cfg.trainer.accelerator)
    precision = choose_precision(cfg.trainer.precision, device)
    print(describe(cfg, device, precision), flush=True)
    rows = []
    for turn in range(arguments.turns):
        bare = time_bare_step(cfg, device, precision, arguments.steps)
        ours = time_train(cfg)
        rows.append((bare, ours))
        print(f"turn {turn + 1}: bare {bare:7.1f}  train.py {ours:7.1f} images/s  ratio {ours / bare:.3f}", flush=True)
    bare, ours = (statistics.median(column) for column in zip(*rows, strict=True))
    ratios = sorted(ours / bare for bare, ours in rows)
    print(
        f"median: bare {bare:.1f}  train.py {ours:.1f} images/s  "
        f"ratio {statistics.median(ratios):.3f} (from {ratios[0]:.3f} to {ratios[-1]:.3f})"
    )


def compose_synthetic(overrides: list[str], steps: int) -> DictConfig:
    """The configuration of train.py with random pixels, long enough for the counted steps."""
    with initialize_config_dir(str(PROJECT / "configs"), version_base="1.3"):
        words = ["~experiment", "data=synthetic", "model=resnet18", "model.name=resnet18", *overrides]
        cfg = compose("train", words)
        images = (steps + WARM_UP) * cfg.data.batch_size
        return compose("train", [*words, f"data.num_synthetic={images}", "trainer.max_epochs=1"])


def describe(cfg: DictConfig, device: torch.device, precision: str) -> str:
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    layout = "channels_last" if cfg.model.channels_last else "contiguous"
    return (
        f"{date.today()}  {device.type} ({where}, {platform.machine()})  torch {torch.__version__}\n"
        f"{cfg.model.name}, {cfg.data.image_size} px, batch {cfg.data.batch_size}, {precision}, {layout}"
    )


def time_bare_step(cfg: DictConfig, device: torch.device, precision: str, steps: int) -> float:
    """Images per second of forward, loss, backward and optimizer step on one batch in memory."""
    torch.manual_seed(0)
    network, _ = create_backbone(cfg.model.name, NUM_SYNTHETIC_CLASSES, arguments=model_arguments(cfg.model))
    layout = torch.channels_last if cfg.model.channels_last else torch.contiguous_format
    network = network.to(device, memory_format=layout).train()  # pyright: ignore[reportCallIssue]
    if cfg.model.compile:
        network.compile()
    optimizer = build(cfg.model.optimizer, "model.optimizer")(network.parameters())
    batch, size = cfg.data.batch_size, cfg.data.image_size
    images = torch.randn(batch, 3, size, size, device=device).contiguous(memory_format=layout)
    labels = torch.randint(0, NUM_SYNTHETIC_CLASSES, (batch,), device=device)

    def step() -> None:
        with autocast(precision, device):
            loss = torch.nn.functional.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for _ in range(WARM_UP):
        step()
    synchronize(device)
    start = time.perf_counter()
    for _ in range(steps):
        step()
    synchronize(device)
    return steps * batch / (time.perf_counter() - start)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def time_train(cfg: DictConfig) -> float:
    """`train/images_per_second` of a whole run into a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        cfg.output = str(Path(folder) / "run")
        return train(cfg).metrics["train/images_per_second"]


if __name__ == "__main__":
    main()
