"""The sentences of a model card: what the numbers of a run say for the model, and what they say against it."""

from collections.abc import Sequence

from sightline.evaluation.wording import counted, percent
from sightline.export.card_facts import FEW_IMAGES, ClassResult, RunFiles, read_table, share_of
from sightline.runs.pages import isolated
from sightline.task_spec import TaskSpec

SPLITS = {"test": "test", "val": "validation"}
CROPS = {
    "crop": "the short side is scaled to it and the centre is cut out",
    "pad": "the long side is scaled to it and the rest is filled",
    "squash": "the picture is stretched to it",
}


def describe_input(spec: TaskSpec) -> str:
    kinds = {1: "greys", 3: "red, green and blue"}
    kind = kinds.get(spec.channels, f"{spec.channels} bands")
    size = f"{spec.image_size} by {spec.image_size} pixels"
    views = f" The answer is the mean over views of the picture ({spec.views})." if spec.views != "none" else ""
    return f"{kind} of {spec.bit_depth} bits, made {size}: {CROPS[spec.crop]} ({spec.interpolation}).{views}"


def describe_threshold(spec: TaskSpec) -> str:
    calibration = spec.calibration
    if calibration is None:
        return "every picture is answered; no threshold was chosen."
    goal = percent(calibration.target_accuracy)
    if calibration.threshold is None:
        return f"no threshold was found: not even the surest answers on validation reached {goal} accuracy."
    if calibration.threshold == 0:
        return f"every picture is answered: all answers together reached {goal} accuracy on validation."
    return (
        f"below a probability of {calibration.threshold:.4g} the model is unsure; of the others {goal} were right on "
        "validation."
    )


def describe_groups(run: RunFiles, is_grouped: bool) -> str:
    if not is_grouped:
        return "The data has no groups: every image counts as independent of the others."
    low, high = (run.metrics[f"{run.split}/accuracy_{end}"] for end in ("low", "high"))
    return (
        "The images come in groups, of which each is whole in one split; images of a group are not independent, so the "
        f"interval over groups is the one to quote. Image by image it would be {low:.4f} to {high:.4f}."
    )


def describe_calibration(run: RunFiles) -> str:
    calibration, metrics, split = run.spec.calibration, run.metrics, run.split
    if calibration is None:
        return "The probabilities are as the network gives them: they were not compared with how often they are right."
    text = (
        f"Logits are divided by a temperature of {calibration.temperature:.4f}, fitted on "
        f"{counted(calibration.num_images, 'validation image')}."
    )
    before, after = metrics.get(f"{split}/ece"), metrics.get(f"{split}/ece_calibrated")
    if before is not None and after is not None:
        text += f" Confidence and accuracy differ by {after:.4f} on average (ECE), and by {before:.4f} without it."
    coverage, accuracy = metrics.get(f"{split}/coverage"), metrics.get(f"{split}/accuracy_answered")
    if coverage and accuracy is not None:
        text += (
            f" At the threshold {percent(coverage)} are answered, and {percent(accuracy)} of these answers are right."
        )
    return f"{text} These numbers are of validation, too." if split == "val" else text


def describe_robustness(run: RunFiles) -> str:
    mean, clean = (run.metrics.get(f"{run.split}/corruption/{name}_accuracy") for name in ("mean", "clean"))
    if mean is None or clean is None:
        return "Damaged pictures were not measured in this run; evaluate.py measures them."
    return (
        f"On damaged copies of {SPLITS[run.split]} images the accuracy is {mean:.4f}, and {clean:.4f} on the "
        f"same images as they are: damage costs {clean - mean:.4f}."
    )


def describe_limits(run: RunFiles, worst: Sequence[ClassResult]) -> list[str]:
    """What the numbers of this run say against it."""
    metrics, split, limits = run.metrics, run.split, []
    if split == "val":
        limits.append(
            "No test images were measured: the results are of validation, which chose the checkpoint and the "
            "calibration, so they are too good rather than too bad."
        )
    missed = [each for each in worst if each.num_right < each.num_images][:3]
    if missed:
        told = "; ".join(
            f"{isolated(each.name)}: {share_of(each.num_right, each.num_images)} of {counted(each.num_images, 'image')}"
            for each in missed
        )
        limits.append(f"Least found classes: {told}.")
    if run.confusions:
        told = ", ".join(
            f"{isolated(label)} taken for {isolated(answer)} ({count} of {total})"
            for label, answer, count, total in run.confusions
        )
        limits.append(f"Most often confused: {told}.")
    small = [each for each in run.classes if each.num_images < FEW_IMAGES]
    if small:
        fewest = min(each.num_images for each in small)
        limits.append(
            f"{len(small)} of {counted(len(run.classes), 'class').replace('classs', 'classes')} were measured on fewer "
            f"than {FEW_IMAGES} images, the smallest on {fewest}: their rows in the table are uncertain."
        )
    if (coverage := metrics.get(f"{split}/coverage")) is not None and coverage < 1:
        limits.append(f"Unsure about {percent(1 - coverage)} of the {SPLITS[split]} images: these need a person.")
    if leaks := run.data.get("findings", {}).get("leak"):
        limits.append(
            f"The audit counts {leaks:,} pictures that lie in two splits, alike or nearly: results may be too good."
        )
    if suspects := int(metrics.get(f"{split}/label_suspects", 0)):
        limits.append(f"{counted(suspects, 'label')} of the measured images look wrong, or the model does on them.")
    if corruptions := mean_corruptions(run)[0]:
        limits.append(
            f"Most sensitive to {corruptions[0][0]}: {corruptions[0][1]} of such pictures are answered right."
        )
    limits.append("Nothing is known of pictures from other cameras, places or times than those of the data.")
    return limits


def mean_corruptions(run: RunFiles) -> tuple[list[tuple[str, str]], str]:
    """Damage and mean accuracy, the worst first, and the severities."""
    rows = read_table(run.folder / "evaluation" / "corruptions.csv")
    by_name: dict[str, list[float]] = {}
    for row in rows:
        by_name.setdefault(row["corruption"].replace("_", " "), []).append(float(row["accuracy"]))
    means = sorted((sum(values) / len(values), name) for name, values in by_name.items())
    severities = sorted({row["severity"] for row in rows})
    return [(name, f"{mean:.4f}") for mean, name in means], ", ".join(severities)
