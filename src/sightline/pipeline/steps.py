"""The steps of a pipeline: each a program of ours with the overrides that one would type. Pure; never imports torch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sightline.config import STEPS, PipelineConfig, to_plain
from sightline.runs.override_text import key_of, override

OF_THE_PIPELINE = (
    "pipeline",
    "launch",
    "hydra",
    "paths",
    "local",
    "output",
    "resume",
    "stages",
    "export",
    "explanation",
)
"""Groups and keys of the command line that no training gets from it."""
OF_THE_NETWORK = (
    *("image_size", "interpolation", "crop", "mean", "std", "batch_size", "num_workers", "sampler", "with_validation"),
    *("device_cache", "cache", "cache_gb", "orientation_matters", "mirror_classes", "name", "version"),
)
"""Keys of `data` that say how images are fed to a network, and nothing of which there are."""
PRECISIONS = {"fp32": "32-true", "int8": "int8"}
"""By what is served: the precision of its evaluation."""


@dataclass(frozen=True)
class Output:
    """Where a step finds what an earlier one left: a file or folder below that one's folder."""

    step: str
    path: str = ""


@dataclass(frozen=True)
class Step:
    """One run of a program; its folder is the `output` of that program."""

    name: str
    script: str
    """Below the project, like `src/train.py`."""
    overrides: tuple[str, ...] = ()
    inputs: Mapping[str, Output] = field(default_factory=dict)
    """By key: what comes from earlier steps."""

    def __post_init__(self) -> None:
        assert self.name in STEPS

    @property
    def needs(self) -> tuple[str, ...]:
        """The steps that must have finished."""
        return tuple(dict.fromkeys(each.step for each in self.inputs.values()))


@dataclass(frozen=True)
class Champion:
    """The model that a candidate is held against."""

    name: str
    """As people are told, like `digits/2`."""
    run: str
    """As `against=` takes it."""
    manifest: str
    """As `previous=` of gate.py takes it."""
    sha256: str
    """Of what it computes with."""


def make_steps(
    cfg: PipelineConfig,
    typed: Sequence[str],
    data: str,
    images: Mapping[str, Any],
    champion: Champion | None = None,
) -> tuple[Step, ...]:
    """The programs from `prepare` to `gate`; what merges annotations and registers is no program of its own here.

    `typed` are the overrides of the command line, `data` the chosen file of `configs/data/`, `images` its values as
    prepare.py composes them; `champion` is the one that `pipeline.champion` means, where that is known.
    """
    exported = {"run": Output("export")}
    exporting = ["export.int8=true"] if cfg.pipeline.precision == "int8" else []  # or say why there is none
    given = cfg.pipeline.explain_images
    explained = ["explanation.choice=fixed"] if given is None else [override("images", given)]
    other = cfg.pipeline.champion if champion is None else champion.run
    against = [] if other in ("auto", "none") else [override("against", other)]
    told = [] if champion is None else [override("champion", champion.name), override("previous", champion.manifest)]
    return (
        Step("prepare", "src/prepare.py", (f"data={data}", *_changes(cfg, images), "pin=false", *_of_code(typed))),
        Step(
            "train",
            "src/train.py",
            (*_without(_without_key(typed, "data.manifest"), OF_THE_PIPELINE), "stages=[fit]"),
            {"data.manifest": Output("prepare", "manifest.csv")},
        ),
        Step(
            "export",
            "src/export.py",
            (*exporting, *_only(typed, ("export",)), *_of_code(typed)),
            {"run": Output("train")},
        ),
        Step(
            "evaluate",
            "src/evaluate.py",
            (
                *_only(typed, ("evaluation",)),
                *_of_code(typed),
                "runtime=onnx",
                f"precision={PRECISIONS[cfg.pipeline.precision]}",
                "evaluation.gates=null",
                *against,
            ),
            exported,
        ),
        Step("explain", "src/explain.py", (*explained, *_only(typed, ("explanation",)), *_of_code(typed)), exported),
        Step(
            "gate",
            "src/gate.py",
            (
                *(override(f"pipeline.{name}", value) for name, value in gate_settings(cfg).items()),
                override("registered_as", cfg.pipeline.model or cfg.name),
                *told,
                "fails=false",
            ),
            {**exported, "evaluated": Output("evaluate"), "explained": Output("explain")},
        ),
    )


def gate_settings(cfg: PipelineConfig) -> dict[str, Any]:
    """What gate.py is told of the section `pipeline`, by key."""
    names = ("gate", "min_accuracy", "gates", "against", "max_loss", "allow_test_changes")
    return {name: getattr(cfg.pipeline, name) for name in names}


def _changes(cfg: PipelineConfig, images: Mapping[str, Any]) -> list[str]:
    """The keys of `data` that differ from what its file says, and have to do with which images there are."""
    mine = to_plain(cfg)["data"]
    differing = {
        name: value for name, value in mine.items() if name not in OF_THE_NETWORK and images.get(name) != value
    }
    return [override(f"data.{name}", value) for name, value in differing.items()]


def _of_code(typed: Iterable[str]) -> list[str]:
    return _only(typed, ("extensions", "trust_code"))


def _only(typed: Iterable[str], groups: Sequence[str]) -> list[str]:
    return [each for each in typed if _group(each) in groups]


def _without(typed: Iterable[str], groups: Sequence[str]) -> list[str]:
    return [each for each in typed if _group(each) not in groups]


def _without_key(typed: Iterable[str], key: str) -> list[str]:
    return [each for each in typed if key_of(each) != key]


def _group(typed: str) -> str:
    return key_of(typed).split(".")[0].split("/")[0]
