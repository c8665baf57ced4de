"""Why a run of a pipeline registered nothing, or what it registered, in a line."""

from pathlib import Path

from sightline.config import PipelineConfig, did_you_mean
from sightline.errors import BadInput
from sightline.pipeline.record import FILE, FOLDER, PipelineRecord, is_running
from sightline.runs.folder import LATEST


def why(cfg: PipelineConfig, run: str = LATEST) -> str:
    """What is known of a run: its folder, the name of an experiment (its newest run), or `latest` of all."""
    record = PipelineRecord.load(find_pipeline(run, Path(cfg.paths.runs)))
    where = f" ({record.folder})"
    if record.status == "finished":
        if record.version is None:
            return f"{record.sentence or 'it was registered'}{where}"
        name = f"{record.version['name']}/{record.version['version']}"
        if record.version.get("is_new", True):
            return f"it was registered as {name}{where}"
        return f"it is the same model as {name}, so nothing new was registered{where}"
    if record.status == "nothing_new":
        return f"{record.sentence or 'there was nothing new to train on'}{where}"
    if record.status == "gate_not_met":
        return f"{record.sentence}{where}"
    if record.status == "running" and is_running(record.folder):
        step = next((each.name for each in record.steps if each.status == "running"), None)
        return f"it is still running{f', at {step}' if step else ''}{where}"
    again = "the same command goes on with it"
    failed = next((each for each in record.steps if each.status == "failed"), None)
    if failed is not None:
        return f"{failed.name} failed: {failed.reason}; {again}{where}"
    if record.status == "failed":
        return f"{record.sentence}; {again}{where}"
    step = next((each.name for each in record.steps if each.status in ("running", "stopped", "waiting")), "its end")
    how = record.sentence if record.status == "interrupted" else "its process was killed"
    return f"it did not get beyond {step}: {how}; {again}{where}"


def find_pipeline(run: str, runs: Path) -> Path:
    """Raises: BadInput where there is none."""
    top = runs / FOLDER
    for path in (Path(run).expanduser(), runs / run, top / run):
        if (path / FILE).is_file():
            return path.resolve()
    pattern = "*/*" if run == LATEST else f"{run}/*"
    found = [file.parent for file in top.glob(f"{pattern}/{FILE}")] if "/" not in run.strip("/") else []
    if found:
        return max(found, key=lambda folder: (folder.name, folder.parent.name))
    names = sorted({file.parent.parent.name for file in top.glob(f"*/*/{FILE}")})
    there = f"; there are runs of {', '.join(names)}" if names else "; none has run here"
    raise BadInput(f"{run}: no run of a pipeline{did_you_mean(run, names)}{there}")
