"""The time of a training step by part, from the actions that Lightning reports to its profiler."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pytorch_lightning.profilers import Profiler

PARTS = ("data", "transfer", "forward", "backward", "optimizer", "callbacks", "logging")
"""`logging` is all that no other part claims: loggers, and Lightning's own loop."""
PART_OF = {
    "train_dataloader_next": "data",
    "on_before_batch_transfer": "transfer",
    "transfer_batch_to_device": "transfer",
    "batch_to_device": "transfer",
    "on_after_batch_transfer": "transfer",
    "training_step": "forward",
    "backward": "backward",
    "optimizer_step": "optimizer",
    "optimizer_zero_grad": "optimizer",
    "configure_gradient_clipping": "optimizer",
    "lr_scheduler_step": "optimizer",
}
ON_DEVICE = ("transfer", "forward", "backward", "optimizer")
"""Parts that a GPU may still be working on when the processor has gone on."""


@dataclass
class Step:
    """Seconds of one training step by part, and of each callback."""

    start: float
    seconds: float = 0.0
    parts: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    callbacks: dict[str, float] = field(default_factory=dict)
    num_actions: int = 0


@dataclass
class _Action:
    name: str
    start: float
    inner: float = 0.0  # seconds that belong to actions within this one


class StepTimes(Profiler):
    """A Lightning profiler that keeps every step's split; `wait` returns when the device has done its work."""

    def __init__(self, wait: Callable[[], None] | None = None) -> None:
        super().__init__()
        self.steps: list[Step] = []
        self._wait = wait
        self._open: list[_Action] = []
        self._step: Step | None = None

    def start(self, action_name: str) -> None:
        if action_name.endswith(".train_dataloader_next"):
            self.end_step()
            self._step = Step(time.perf_counter())
        self._open.append(_Action(action_name, time.perf_counter()))

    def stop(self, action_name: str) -> None:
        if not self._open or self._open[-1].name != action_name:
            return  # began before this profiler did
        action = self._open.pop()
        part = part_of(action_name)
        if self._wait is not None and part in ON_DEVICE:
            self._wait()
        seconds = time.perf_counter() - action.start
        if self._open:
            self._open[-1].inner += seconds
        if self._step is None:
            return
        self._step.num_actions += 1
        if part is None:
            return
        own = seconds - action.inner
        self._step.parts[part] += own
        if part == "callbacks":
            name = callback_name(action_name)
            self._step.callbacks[name] = self._step.callbacks.get(name, 0.0) + own

    def end_step(self) -> None:
        """End the step: what follows is validation, or the end of an epoch."""
        if self._step is None:
            return
        step, self._step = self._step, None
        step.seconds = time.perf_counter() - step.start
        step.parts["logging"] = max(0.0, step.seconds - sum(step.parts.values()))
        self.steps.append(step)


def part_of(action_name: str) -> str | None:
    """The part of a step that an action of Lightning's belongs to; None for one that contains other actions."""
    if action_name.startswith("[Callback]"):
        return "callbacks"
    return PART_OF.get(action_name.rpartition(".")[2])


def callback_name(action_name: str) -> str:
    """`EpochTable` of `[Callback]EpochTable.on_train_batch_end`; Lightning may add arguments to the name."""
    return action_name.removeprefix("[Callback]").split(".")[0].split("{")[0]


def cost_of_an_action(count: int = 2000) -> float:
    """Overhead of profiling one action, in seconds."""
    times = StepTimes()
    times.start("[Loop].train_dataloader_next")
    start = time.perf_counter()
    for _ in range(count):
        with times.profile("[Callback]None.on_train_batch_end"):
            pass
    return (time.perf_counter() - start) / count
