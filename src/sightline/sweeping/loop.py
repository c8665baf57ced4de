"""The ask-and-tell loop: ask Optuna for a point, run it as a job, report its metrics, prune, tell; all asynchronous."""

import logging
import math
import shutil
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sightline.errors import BadInput
from sightline.launch.backend import Backend
from sightline.launch.interruption import Interruption
from sightline.launch.job import Job, State, Status, job_name
from sightline.sweeping.ownership import Owner
from sightline.sweeping.settings import Settings, comparable
from sightline.sweeping.study import (
    COST,
    JOB,
    LOG_TAIL,
    OVERRIDES,
    OWNER,
    PRUNED_AT,
    REASON,
    RETIRED,
    REUSED,
    grid_size,
    is_counted,
    is_grid,
    make_sampler,
)

if TYPE_CHECKING:
    import optuna

log = logging.getLogger(__name__)
MAX_ATTEMPTS = 3
"""Starts of a trial that is stopped by something other than its sweep."""
NUM_TAIL_LINES = 30
ADOPT_EVERY_SECONDS = 5.0
ASK_COST_EVERY_SECONDS = 10.0
SECONDS_TO_STOP = 120.0


@dataclass
class Running:
    """A trial that has a slot, or waits for one to go on."""

    trial: "optuna.Trial"
    overrides: list[str]
    job_id: str | None = None
    attempts: int = 0
    is_pruned: bool = False
    cost_usd: float = 0.0
    reported: set[int] = field(default_factory=set)


class Loop:
    """Runs the trials of a study until `n_trials` are finished, the time is over or too many have failed."""

    def __init__(
        self,
        settings: Settings,
        study: "optuna.Study",
        backend: Backend,
        owner: Owner,
        *,
        check: Callable[[list[str]], object] = lambda overrides: None,
        show: Callable[["Loop"], None] = lambda loop: None,
    ) -> None:
        self.settings, self.study, self.backend, self.owner = settings, study, backend, owner
        self.check, self.show = check, show
        self.n_trials = min(settings.n_trials, grid_size(settings.space)) if is_grid(settings) else settings.n_trials
        self.running: list[Running] = []
        self.pending: list[Running] = []
        self.reusing: list[tuple[optuna.Trial, int]] = []
        self.started = time.monotonic()
        self._adopted_at = self._asked_cost_at = -math.inf
        self._is_exhausted = False
        self._num_sampled: int | None = None
        study.stop = self._exhaust  # samplers of a finite grid call it at its end

    def run(self) -> str:
        """Run to an end and return which: `finished`, `time budget`, `cost budget` or `failures`.

        Raises: Interrupted once every running trial has stopped.
        """
        with Interruption() as interruption:
            try:
                while (end := self._end()) is None:
                    self._adopt()
                    self._fill()
                    self.show(self)
                    interruption.wait(self.backend.poll_seconds)
                    interruption.check()
                    self._collect()
            except BaseException:
                self._stop_all()
                raise
            if end != "finished":
                self._stop_all()
        self.show(self)
        return end

    def trials(self) -> list["optuna.trial.FrozenTrial"]:
        return self.study.get_trials(deepcopy=False)

    def counted(self) -> int:
        return sum(is_counted(trial) for trial in self.trials())

    def failures(self) -> int:
        from optuna.trial import TrialState

        return sum(
            is_counted(trial) and trial.state == TrialState.FAIL and REUSED not in trial.user_attrs
            for trial in self.trials()
        )

    def _end(self) -> str | None:
        if self.counted() >= self.n_trials:
            return "finished"
        most, budget = self.settings.max_failures, self.settings.time_budget_minutes
        if most is not None and self.failures() >= most:
            return "failures"
        if budget is not None and time.monotonic() - self.started >= 60 * budget:
            return "time budget"
        money = self.settings.cost_budget_usd
        if money is not None and self.spent_usd() >= money:
            return "cost budget"
        is_idle = not (self.running or self.pending or self.reusing)
        return "finished" if self._is_exhausted and is_idle else None

    def spent_usd(self) -> float:
        """The cost of all trials of the study; that of running ones is asked for every few seconds."""
        if time.monotonic() - self._asked_cost_at >= ASK_COST_EVERY_SECONDS:
            for each in self.running:
                if each.job_id is not None:
                    each.cost_usd = self.backend.cost_usd(each.job_id)
            self._asked_cost_at = time.monotonic()
        running = {each.trial.number: each.cost_usd for each in self.running}
        others = (trial.user_attrs.get(COST, 0.0) for trial in self.trials() if trial.number not in running)
        return sum(running.values()) + sum(others)

    def _exhaust(self) -> None:
        self._is_exhausted = True

    # trials of a sweep that died

    def _adopt(self) -> None:
        """Take over running trials whose sweep is gone: attach to those whose jobs still run, go on with the others."""
        import optuna

        if time.monotonic() - self._adopted_at < ADOPT_EVERY_SECONDS:
            return
        if self.settings.storage is not None:
            self.owner.show_life(self.study)
        with self.owner.asking():
            mine = {each.trial.number for each in (*self.running, *self.pending)} | {t.number for t, _ in self.reusing}
            for frozen in self.study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
                if frozen.number not in mine and self.owner.is_gone(frozen.user_attrs.get(OWNER), self.study):
                    self._take_over(frozen)
        self._adopted_at = time.monotonic()

    def _take_over(self, frozen: "optuna.trial.FrozenTrial") -> None:
        import optuna

        trial = optuna.Trial(self.study, frozen._trial_id)
        trial.set_user_attr(OWNER, self.owner.name)
        if OVERRIDES not in frozen.user_attrs:  # killed between asking and signing
            self._freshen_sampler()
            try:
                self._prepare(trial)
            except ValueError as error:
                self._retire(trial, f"died with its sweep before it began ({error})")
            self._num_sampled = self._num_begun()
            return
        point = self.settings.space.decode(frozen.params)
        overrides = self.settings.overrides(point)
        if REUSED in frozen.user_attrs:
            self.reusing.append((trial, frozen.user_attrs[REUSED]))
            return
        taken = Running(trial, overrides, frozen.user_attrs.get(JOB), is_pruned=PRUNED_AT in frozen.user_attrs)
        taken.reported = set(frozen.intermediate_values)
        space = self.settings.space
        is_outside = any(key in space.keys and not space[key].holds(value) for key, value in point.items())
        if is_outside or comparable(overrides) != comparable(frozen.user_attrs[OVERRIDES]):
            if taken.job_id is not None:
                self.backend.stop(taken.job_id)
            self._retire(trial, "the space changed while it waited to go on")
        else:
            self.pending.append(taken)

    def _retire(self, trial: "optuna.Trial", reason: str) -> None:
        """Give a trial up: it is no result and does not count."""
        import optuna

        trial.set_user_attr(RETIRED, True)
        trial.set_user_attr(REASON, reason)
        self.study.tell(trial, state=optuna.trial.TrialState.FAIL)

    # new trials

    def _fill(self) -> None:
        """Give every free slot a trial: first those that have begun, then new ones."""
        while len(self.running) < self.settings.n_parallel:
            if not self.pending and not self._ask():
                return
            if self.pending:
                self._submit(self.pending.pop(0))

    def _ask(self) -> bool:
        """Make the next trial, if one is wanted."""
        import optuna

        with self.owner.asking():
            active = self.study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))
            if self._is_exhausted or self.counted() + len(active) >= self.n_trials:
                return False
            self._freshen_sampler()
            trial = self.study.ask()
            trial.set_user_attr(OWNER, self.owner.name)
            self._num_sampled = self._num_begun()
            if self._num_before(trial.number) >= self.n_trials:  # another machine asked at the same moment
                self._retire(trial, "another sweep had made the last trial")
                return False
            self._prepare(trial)
        return True

    def _freshen_sampler(self) -> None:
        """Reseed the sampler when another sweep has asked in between: with one seed both would propose the same."""
        if (number := self._num_begun()) != self._num_sampled:
            salt = self.owner.name if self.settings.storage else ""
            self.study.sampler = make_sampler(self.settings, number, salt)

    def _num_begun(self) -> int:
        from optuna.trial import TrialState

        return sum(trial.state != TrialState.WAITING for trial in self.trials())

    def _num_before(self, number: int) -> int:
        from optuna.trial import TrialState

        wanted = (trial for trial in self.trials() if trial.number < number)
        return sum(is_counted(trial) or trial.state == TrialState.RUNNING for trial in wanted)

    def _prepare(self, trial: "optuna.Trial") -> None:
        """Choose the trial's point; one that was tried before is not run again."""
        overrides = self.settings.overrides(self.settings.space.suggest(trial))
        same = self._same_point(trial)
        if same is not None:
            trial.set_user_attr(REUSED, same)
        trial.set_user_attr(OVERRIDES, overrides)
        if same is None:
            self.pending.append(Running(trial, overrides))
        else:
            self.reusing.append((trial, same))

    def _same_point(self, trial: "optuna.Trial") -> int | None:
        from optuna.trial import TrialState

        for other in self.trials():
            if other.number < trial.number and other.params == trial.params and not other.user_attrs.get(RETIRED):
                return None if other.state == TrialState.WAITING else other.user_attrs.get(REUSED, other.number)
        return None

    def _submit(self, each: Running) -> None:
        """Start or resume a trial's job; one that runs already, or is over, is only watched."""
        is_known = each.job_id is not None and self.backend.status(each.job_id).state != State.STOPPED
        if not is_known and not each.is_pruned:
            number = each.trial.number
            self.check(each.overrides)
            overrides = (*each.overrides, f"output={self.settings.run_folder(number)}")
            job = Job(job_name(self.settings.name, str(number)), self.settings.script, overrides, self.settings.commit)
            each.job_id = self.backend.submit(self.backend.plan(job))
            each.trial.set_user_attr(JOB, each.job_id)
            each.attempts += 1
        self.running.append(each)

    # trials that run

    def _collect(self) -> None:
        for each in list(self.running):
            assert each.job_id is not None
            status = self.backend.status(each.job_id)
            if len(self.settings.metrics) == 1:
                self._report(each)
            if status.is_over:
                self.running.remove(each)
                self._finish(each, status)
        self._reuse()

    def _report(self, each: Running) -> None:
        """Report new epochs to Optuna, and stop the job when the pruner says so."""
        assert each.job_id is not None
        (metric,) = self.settings.metrics
        for point in self.backend.metrics(each.job_id):
            if point.name != metric or point.step is None or point.step in each.reported:
                continue
            each.reported.add(point.step)
            if each.is_pruned:
                continue  # reported while it stopped
            each.trial.report(point.value, point.step)
            if each.trial.should_prune():
                each.is_pruned = True
                each.trial.set_user_attr(PRUNED_AT, point.step)
                self.backend.stop(each.job_id)

    def _finish(self, each: Running, status: Status) -> None:
        import optuna

        states = optuna.trial.TrialState
        assert each.job_id is not None
        if cost := self.backend.cost_usd(each.job_id):
            each.trial.set_user_attr(COST, cost)
        if status.state == State.SUCCEEDED:
            self.backend.fetch(each.job_id, self.settings.run_folder(each.trial.number))
            values = self._values(each)
            if isinstance(values, str):
                self._fail(each, values)
            else:
                self.study.tell(each.trial, values)
        elif each.is_pruned:
            shutil.rmtree(self.settings.run_folder(each.trial.number) / "checkpoints", ignore_errors=True)
            self.study.tell(each.trial, state=states.PRUNED)
        elif status.state == State.STOPPED and each.attempts < MAX_ATTEMPTS:
            self.pending.append(each)
        elif status.is_bad_input:
            each.trial.set_user_attr(JOB, None)  # open, so that the next start runs it anew
            raise BadInput(f"trial {each.trial.number}: {status.reason}")
        else:
            self._fail(each, status.reason or "failed")

    def _values(self, each: Running) -> list[float] | str:
        """The final values of the optimised metrics, or the reason why they cannot be used."""
        assert each.job_id is not None
        final = {point.name: point.value for point in self.backend.metrics(each.job_id) if point.step is None}
        for metric in self.settings.metrics:
            if metric not in final:
                return f"it reported no {metric}; it has {', '.join(sorted(final)) or 'nothing'}"
            if not math.isfinite(final[metric]):
                return f"{metric} is {final[metric]}"
        return [final[metric] for metric in self.settings.metrics]

    def _fail(self, each: Running, reason: str) -> None:
        import optuna

        assert each.job_id is not None
        tail = "\n".join(deque(self.backend.logs(each.job_id), NUM_TAIL_LINES))
        each.trial.set_user_attr(REASON, reason)
        each.trial.set_user_attr(LOG_TAIL, tail[-4000:])
        log.warning("trial %d failed: %s", each.trial.number, reason)
        self.study.tell(each.trial, state=optuna.trial.TrialState.FAIL)

    def _reuse(self) -> None:
        """Finish trials whose point was tried before with the outcome of that earlier trial."""
        left = []
        by_number = {trial.number: trial for trial in self.trials()} if self.reusing else {}
        for trial, number in self.reusing:
            original = by_number[number]
            if original.user_attrs.get(RETIRED):
                self._retire(trial, f"trial {number}, which it repeats, was given up")
            elif original.state.is_finished():
                self._tell_as(trial, original)
            else:
                left.append((trial, number))
        self.reusing = left

    def _tell_as(self, trial: "optuna.Trial", original: "optuna.trial.FrozenTrial") -> None:
        from optuna.trial import TrialState

        if len(self.settings.metrics) == 1:
            for step, value in original.intermediate_values.items():
                trial.report(value, step)
        trial.set_user_attr(REASON, f"the same point as trial {original.number}")
        values: Any = original.values if original.state == TrialState.COMPLETE else None
        self.study.tell(trial, values, state=original.state)

    # the end

    def _stop_all(self) -> None:
        """Stop the running trials; they stay open in the study, and the next start goes on with them."""
        for each in self.running:
            assert each.job_id is not None
            self.backend.stop(each.job_id)
            if cost := self.backend.cost_usd(each.job_id):
                each.trial.set_user_attr(COST, cost)
        until = time.monotonic() + SECONDS_TO_STOP
        while time.monotonic() < until:
            if all(self.backend.status(each.job_id).is_over for each in self.running if each.job_id):
                return
            time.sleep(self.backend.poll_seconds)
