"""The policy of submitting: checks before a job, the overrides that it gets, its record, and its results at the end."""

import json
import logging
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.config.code_of_run import EXTENSIONS, check_place
from sightline.config.own_code import are_of_trusted_packages, open_code
from sightline.errors import BadInput, Interrupted
from sightline.launch.backend import Backend, LaunchSettings, Plan
from sightline.launch.backends import backend_name, find_backend, settings_of
from sightline.launch.job import Job, State, Status
from sightline.launch.job_array import name_jobs, run_jobs
from sightline.launch.log_following import Follower, command_to_fetch, commands
from sightline.launch.overrides import (
    NOT_PATHS,
    find_own_code,
    find_own_data,
    names_several,
    path_keys,
    split_channels,
    with_absolute_paths,
    with_composed_paths,
    with_weights_files,
)
from sightline.launch.records import fetch_recorded, find_record, submit_recorded
from sightline.launch.source_changes import check_source, source_changes
from sightline.registry.names import with_local_overrides
from sightline.runs.files import read_json
from sightline.runs.folder import find_resumed, named_path
from sightline.runs.invocation import UNTOLD, Invocation
from sightline.runs.override_text import key_of, literal, quoted, value_of
from sightline.runs.project import PROJECT
from sightline.runs.record import git_commit

log = logging.getLogger(__name__)
PLAN_KEYS = ("backend", "job", "settings", "uploads", "request")
WEIGHTS_FOR = "model.weights_for"
DATA_VERSION = "data.version"
MADE_ANYWHERE = ("digits", "synthetic")
"""Data that need no files to begin with."""
NAMED_BY_ROOT = ("folder", "shards")
"""Data whose name follows from where they lie, which is elsewhere on another machine."""


def composed_keys() -> tuple[str, ...]:
    """Keys of a composed configuration that decide whether and how its job can run on another machine."""
    return (*path_keys(), WEIGHTS_FOR, DATA_VERSION, "trust_code", "data.source", "data.name", "divergence.action")


TARGETS = "targets"
"""What a configuration names by `_target_`, beside those keys."""


@dataclass(frozen=True)
class Submission:
    """A checked backend, and the folder with the records of its jobs."""

    backend: Backend
    settings: LaunchSettings
    records: Path
    invocation: Invocation = UNTOLD
    changes: str | None = None
    """The difference between the code that is sent and its commit."""

    @classmethod
    def open(cls, values: Mapping[str, Any], records: Path, invocation: Invocation = UNTOLD) -> "Submission":
        """Nothing is written or started. `values` holds the keys of `launch`; `records` is the folder of the jobs.

        Raises: BadInput for settings that are missing or cannot be, or for code that no commit has.
        """
        kind = find_backend(backend_name(values))
        settings = kind.check(settings_of(kind.name, values))
        changes = None
        if hasattr(settings, "allow_dirty"):
            changes = source_changes()
            check_source(changes, settings.allow_dirty)
        return cls(kind(records, settings), settings, records, invocation, changes)

    def overrides(self, overrides: Sequence[str], composed: Mapping[str, Any], runs: Path) -> list[str]:
        """The overrides of a run, with paths that mean the same where it runs.

        `composed` holds the values of `composed_keys` in its configuration; relative paths start at the working folder.

        Raises: BadInput for a path that is not here, data that are nowhere, or a run that machines cannot share; for
        own code that the job could not import.
        """
        overrides, composed = with_local_overrides(overrides, composed)
        count, folder = getattr(self.settings, "instance_count", 1), Path.cwd()
        if count > 1 and composed.get("divergence.action") == "rollback":
            raise BadInput(
                f"launch.instance_count={count} divergence.action=rollback: only the first machine has the checkpoint "
                "to go back to; set divergence.action=stop, or launch.instance_count=1"
            )
        if (files := composed.get(WEIGHTS_FOR)) and not self.backend.sees_files:
            raise BadInput(
                f"{WEIGHTS_FOR}={files}: jobs of launch={self.backend.name} get one weights file; name it with "
                f"model.weights=FILE and leave {WEIGHTS_FOR} out"
            )
        if (resumed := composed.get("resume")) not in (None, *NOT_PATHS):
            overrides = self._to_go_on(overrides, find_resumed(str(resumed), runs))
        overrides = self._with_own_code(overrides, composed, runs, folder)
        if not self.backend.sees_files and composed.get(DATA_VERSION) is not None:
            overrides, composed = self._with_data_version(overrides, composed)
        named = with_composed_paths(overrides, {**composed, EXTENSIONS: value_of(overrides, EXTENSIONS)}, runs, folder)
        if self.backend.sees_files:
            split_channels([each for each in named if not names_several(each, folder)], folder)
            lists = {key_of(each): each for each in named if isinstance(composed.get(key_of(each)), list)}
            overrides = [lists.get(key_of(each), each) for each in overrides]
            return with_absolute_paths(with_weights_files(overrides, files or {}, folder), folder, runs)
        self._check_targets(named)
        run = value_of(named, "run")
        if run is not None and not any(value_of(named, key) for key in ("data.root", "data.own_root", "images")):
            own = find_own_data(run)
            named += [] if own is None else [f"data.own_root={quoted(own)}"]
        source = composed.get("data.source")
        has_data = getattr(self.settings, "data_s3", None) or any(each.startswith("data.root=") for each in named)
        if not has_data and source is not None and source not in MADE_ANYWHERE and not self.settings.dry_run:
            raise BadInput(
                f"data.root={composed.get('data.root')}: no such folder, and the job could not make it; name one with "
                "data.root=FOLDER or an address with launch.data_s3=s3://bucket/folder"
            )
        name = composed.get("data.name")
        if name is not None and source in NAMED_BY_ROOT and value_of(named, "data.name") is None:
            named.append(f"data.name={quoted(name)}")
        return named

    def pin_data_version(
        self, overrides: Sequence[str], composed: Mapping[str, Any]
    ) -> tuple[list[str], Mapping[str, Any]]:
        """The overrides and composed values with the number of the data version that they name by its name or a tag.

        A job that is named again then means the same images, and those of a newer version another job.

        Raises: BadInput when there is no such version.
        """
        spelled = composed.get(DATA_VERSION)
        if spelled is None or re.fullmatch(r"[^/]+/\d+", str(spelled)):
            return list(overrides), composed
        from sightline.data.versions.store import open_versions

        versions = open_versions(str(composed["paths.data_versions"]), Path(str(composed["paths.cache"])))
        pinned = versions.find(str(spelled)).spelled()
        kept = [each for each in overrides if key_of(each) != DATA_VERSION]
        return [*kept, f"{DATA_VERSION}={quoted(pinned)}"], {**composed, DATA_VERSION: pinned}

    def _with_data_version(
        self, overrides: Sequence[str], composed: Mapping[str, Any]
    ) -> tuple[list[str], dict[str, Any]]:
        """The overrides and composed values with which a machine elsewhere gets a version of the data.

        One that lies in S3 is checked out there; one of this machine is checked out here, and its folder goes along as
        `data.root`, in which `data_version.json` says what it is.
        """
        store, spelled = str(composed["paths.data_versions"]), str(composed[DATA_VERSION])
        of_version = (DATA_VERSION, "paths.data_versions", "data.root")
        kept = [each for each in overrides if key_of(each) not in of_version]
        if store.startswith("s3://"):
            kept += [f"{DATA_VERSION}={quoted(spelled)}", f"paths.data_versions={quoted(store)}"]
            return [*kept, "data.root=${paths.cache}/data_versions"], {**composed, "data.root": None}
        from sightline.data.versions.checkout import cached_checkout
        from sightline.data.versions.store import open_versions

        versions = open_versions(store, Path(str(composed["paths.cache"])))
        root = cached_checkout(versions, versions.find(spelled))
        return [*kept, f"data.root={quoted(str(root))}"], {**composed, "data.root": str(root)}

    def _to_go_on(self, overrides: Sequence[str], folder: Path) -> list[str]:
        """The overrides with which a run goes on: in its own folder, where the job sees it.

        Raises: BadInput where the run is over and the job would take its results for its own.
        """
        is_over = read_json(folder / "run.json").get("status") == "finished"
        if is_over and (not self.backend.sees_files or (folder / ".job").is_dir()):
            raise BadInput(
                f"resume={folder}: this run is finished, and a job of launch={self.backend.name} would end at once; "
                "train on in this process, with launch=here"
            )
        return [*overrides, *([f"output={quoted(str(folder))}"] if self.backend.sees_files else [])]

    def _with_own_code(
        self, overrides: Sequence[str], composed: Mapping[str, Any], runs: Path, folder: Path
    ) -> list[str]:
        """The overrides with the hashes of the own code that the configuration names, as it is now.

        Raises: BadInput for code that is not here, is not to be trusted, or is of a package that machines elsewhere do
        not have.
        """
        targets, trusts = composed.get(TARGETS, {}), bool(composed.get("trust_code"))
        place = None if composed.get(EXTENSIONS) is None else folder / Path(str(composed[EXTENSIONS])).expanduser()
        if (run := composed.get("run")) is not None and place is None and not self.backend.sees_files:
            named = named_path(str(run), runs, folder=folder)
            place = None if named is None else find_own_code(named, trusts=trusts)
        if place is None and are_of_trusted_packages(targets):
            return list(overrides)
        known, record = None, None
        if (resumed := composed.get("resume")) not in (None, *NOT_PATHS):
            record = find_resumed(str(resumed), runs)
            trusts = value_of(self.invocation.argv, "trust_code") == "true"  # and not in a file that the record names
            known = read_json(record / "run.json").get("config", {}).get("code_sha256", {})
            if place is not None and value_of(self.invocation.argv, EXTENSIONS) is None:
                check_place(place, record, trusts=trusts)
        code = open_code(targets, place, known=known, record=record, trusts=trusts)
        installed = [name for name in code.sha256 if name != EXTENSIONS]
        if installed and not self.backend.sees_files:
            key, target = next((key, target) for key, target in targets.items() if target.split(".")[0] == installed[0])
            raise BadInput(
                f"{key}._target_={target}: {installed[0]} is installed here, and not where a job of "
                f"launch={self.backend.name} runs; copy it into a folder and name that with extensions=FOLDER"
            )
        kept = [each for each in overrides if key_of(each).split(".")[0] not in (EXTENSIONS, "code_sha256")]
        stated = [f"++code_sha256.{name}={literal(digest)}" for name, digest in code.sha256.items()]
        return [*kept, *([] if place is None else [f"{EXTENSIONS}={quoted(str(place))}"]), *stated]

    def _check_targets(self, overrides: Sequence[str]) -> None:
        for key in (each for each, kind in path_keys().items() if kind == "target"):
            target = value_of(overrides, key)
            if target not in (None, *NOT_PATHS) and "://" not in str(target):
                raise BadInput(
                    f"{key}={target}: a job of launch={self.backend.name} does not see this machine's folders; "
                    "name s3://bucket/folder"
                )

    def plan(self, job: Job) -> Plan:
        changes = {} if self.changes is None else {"changes": self.changes}
        return {**self.backend.plan(job), **changes}

    @property
    def program(self) -> str:
        """The program that was started, below the project where it lies there."""
        path = Path(self.invocation.argv[0]).absolute()
        return path.relative_to(PROJECT).as_posix() if path.is_relative_to(PROJECT) else str(path)

    @property
    def commit(self) -> str | None:
        """The commit of the code that is here."""
        return git_commit(PROJECT, self.invocation.commit)[0]

    def plan_all(self, names: Sequence[str], overrides: Sequence[Sequence[str]]) -> list[Plan]:
        """Plans of jobs that the same command names alike again, until all of them are finished."""
        each = name_jobs(self.backend, names, self.program, overrides, self.records, self.commit)
        return [self.plan(job) for job in each]

    def leave(self, plans: Sequence[Plan]) -> None:
        """Submit jobs and say how to find them again."""
        for plan in plans:
            submit_recorded(self.backend, plan, self.records)
            say_how_to_follow(plan["job"]["name"], self.records)
        self.backend.close()

    def run(self, plans: Sequence[Plan]) -> list[tuple[Status, Path | None]]:
        """Run jobs and wait; return how each ended, and the run folder of those that succeeded.

        Raises: Interrupted when a signal came; a single job, and those of other machines, run on.
        """
        is_single = len(plans) == 1
        leaves_running = is_single or self.backend.is_remote
        follower = Follower(self.backend, self.records, shows_output=is_single, leaves_running=leaves_running)
        n_parallel = self.settings.n_parallel
        try:
            with self.command_to_go_on(), follower:
                statuses = run_jobs(
                    self.backend, plans, n_parallel, self.records, follower.tell, leaves_running=leaves_running
                )
        finally:
            self.backend.close()
        names = [plan["job"]["name"] for plan in plans]
        return [(status, self._bring_home(name, status)) for name, status in zip(names, statuses, strict=True)]

    @contextmanager
    def command_to_go_on(self) -> Iterator[None]:
        """Within it, a signal that ends the work also logs the command that resumes it."""
        try:
            yield
        except Interrupted:
            log.warning("go on with: %s", shlex.join([sys.executable, *self.invocation.argv]))
            raise

    def _bring_home(self, name: str, status: Status) -> Path | None:
        if status.state != State.SUCCEEDED:
            return None
        with command_to_fetch(name, self.records):
            folder = fetch_recorded(self.backend, find_record(self.records, name), self.records / name)
        launch = read_json(folder / "run.json").get("launch", {})
        if launch.get("cost_usd") is not None:
            saving = "" if launch["spot_saving"] is None else f", {launch['spot_saving']:.0%} saved by spot machines"
            print(f"cost: {launch['cost_usd']:.2f} USD for {launch['seconds_billed']:,.0f} s{saving}")
        print(f"results: {folder}")
        return folder


def print_plans(plans: Sequence[Plan]) -> None:
    """The output of a dry run: one JSON document, a list where there are several plans."""
    print(json.dumps(plans if len(plans) > 1 else plans[0], indent=2, ensure_ascii=False))


def say_how_to_follow(name: str, records: Path) -> None:
    print(f"job: {name}")
    for line in commands(name, records):
        print(f"  {line}")


def read_plans(text: str, source: str) -> list[Plan]:
    """The plans of a dry run; `source` names the text in errors.

    Raises: BadInput for anything else.
    """
    try:
        document = json.loads(text)
    except ValueError as error:
        raise BadInput(f"{source}: not JSON ({error}); give what launch.dry_run=true printed") from error
    plans = document if isinstance(document, list) else [document]
    if not plans:
        raise BadInput(f"{source}: no plan in it; give what launch.dry_run=true printed")
    for plan in plans:
        missing = [key for key in PLAN_KEYS if not isinstance(plan, dict) or key not in plan]
        if missing:
            raise BadInput(f"{source}: no plan, it lacks {', '.join(missing)}; give what launch.dry_run=true printed")
        if problem := _problem_of(plan):
            raise BadInput(f"{source}: {problem}; give what launch.dry_run=true printed")
        Job.of(plan)
    return plans


def _problem_of(plan: Plan) -> str | None:
    job = plan["job"] if isinstance(plan["job"], dict) else {}
    texts = (job.get("name"), job.get("script"), job.get("commit", 0) or "", plan["backend"])
    if not all(isinstance(each, str) for each in texts) or not isinstance(job.get("overrides"), list):
        return "job: must be name, script, overrides and commit of one, and backend a name"
    for key in ("settings", "uploads", "request"):
        if not isinstance(plan[key], dict):
            return f"{key}: must be values by key"
    if not all(isinstance(path, str) for path in plan["uploads"].values()):
        return "uploads: must be local paths by address"
    return None


def submit_plans(plans: Sequence[Plan], records: Path) -> list[Plan]:
    """Submit plans that may come from another process, and write them down; what runs is what was planned.

    Raises: BadInput before the first is submitted, where settings cannot be, or own code has changed since.
    """
    commit, _ = git_commit(PROJECT)
    _warn_of_other_commits(plans, commit)
    for plan in plans:
        _refuse_other_code(plan["job"]["overrides"])
    backends = []
    for plan in plans:
        kind = find_backend(plan["backend"])
        backends.append(kind(records, kind.check(settings_of(kind.name, plan["settings"]))))
    for backend, plan in zip(backends, plans, strict=True):
        submit_recorded(backend, plan, records)
        backend.close()
    return list(plans)


def _refuse_other_code(overrides: Sequence[str]) -> None:
    """Raises: BadInput where the job would refuse the own code that is here, as it is not the code that was planned."""
    place, trusts = value_of(overrides, EXTENSIONS), value_of(overrides, "trust_code")
    stated = value_of(overrides, f"code_sha256.{EXTENSIONS}")
    if place is not None and stated is not None and trusts != "true" and Path(place).is_dir():
        open_code({}, place, known={EXTENSIONS: stated})


def _warn_of_other_commits(plans: Sequence[Plan], commit: str | None) -> None:
    others = [plan for plan in plans if plan["job"]["commit"] != commit]
    if not others:
        return
    planned = ", ".join(sorted({str(plan["job"]["commit"]) for plan in others}))
    if any(find_backend(plan["backend"]).sees_files for plan in others):
        log.warning("planned at commit %s; what runs are the files that are here, of commit %s", planned, commit)
    else:
        log.warning("planned at commit %s, and here is commit %s; what runs is commit %s", planned, commit, planned)
