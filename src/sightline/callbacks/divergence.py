"""Divergence: ends a run whose loss explodes or is not finite, and warns when a loss does not fall."""

import logging
import math
import statistics
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from sightline.distributed.agreement import is_alone, largest, mean

log = logging.getLogger(__name__)
MAX_WAITING = 8
"""Steps by which the check may lag behind a GPU: reading a loss at once would make it wait."""
WINDOW = 5
"""Losses whose median counts as exploding: one bad batch does not."""
MAX_NAMED = 3
MIN_FALL = 0.005
"""Share of itself by which a loss must fall to count as falling."""
LEARNT = 0.5
"""Below this share of the loss of guessing a loss may stand still: it has been learnt."""
CHANGES = "lower model.lr, set trainer.gradient_clip_val=1.0"
GO_BACK = f"{CHANGES}, or go back and on with divergence.action=rollback"


@dataclass(frozen=True)
class Moment:
    """A training batch; `step`, `epoch` and `batch` count as `metrics.csv` and Lightning do."""

    step: int
    epoch: int
    batch: int
    lr: float


class Diverged(RuntimeError):
    """The loss has diverged; `facts` say when, why and on which images."""

    def __init__(self, facts: dict[str, Any], changes: str = GO_BACK) -> None:
        self.facts = facts
        files = facts["files"]
        named = ", ".join(files[:MAX_NAMED])
        more = f" and {len(files) - MAX_NAMED} more (all in run.json)" if len(files) > MAX_NAMED else ""
        images = f", images {named}{more}; look at these images, " if files else "; "
        super().__init__(
            f"{facts['reason']}: step {facts['step']} (epoch {facts['epoch'] + 1}, batch {facts['batch'] + 1}), "
            f"learning rate {facts['lr']:g}{images}{changes}"
        )


class Divergence(Callback):
    """Raises `Diverged` for a loss that is not finite, or whose median over five batches exceeds `explosion_factor`
    times that of guessing (`chance_loss`, or the first loss if that is larger); never lets such a state be saved.

    `files_of(epoch, batch)` names a batch's images. `note(key=value)` writes into run.json.
    """

    def __init__(
        self,
        files_of: Callable[[int, int], list[str]],
        note: Callable[..., None],
        *,
        chance_loss: float,
        explosion_factor: float = 20.0,
        patience_steps: int | None = 500,
    ) -> None:
        self.files_of, self.note = files_of, note
        self.chance_loss, self.explosion_factor, self.patience_steps = chance_loss, explosion_factor, patience_steps
        self.is_warned = False
        self._forget()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._forget()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        lr = float(trainer.optimizers[0].param_groups[0].get("lr", math.nan))  # the scheduler moves before its end
        self._moment = Moment(trainer.global_step, trainer.current_epoch, batch_idx, lr)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert self._moment is not None
        if (loss := _mean_loss(outputs)) is not None:
            self._waiting.append((self._moment, *send_to_host(loss)))
        self._check(waits=False)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._check(waits=True)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._check(waits=True)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Raises: Diverged rather than let a checkpoint hold weights that are not finite."""
        self._check(waits=True)
        if self._moment is not None and any(largest(not are_finite(checkpoint["state_dict"]))):
            raise self._diverged("the weights became nan or infinite", self._moment)

    def _forget(self) -> None:
        self._waiting: deque[tuple[Moment, torch.Tensor, Any]] = deque()
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self._first: float | None = None
        self._moment: Moment | None = None
        self._fall = _Fall(self.patience_steps) if self.patience_steps else None

    def _check(self, *, waits: bool) -> None:
        """Look at the losses that have arrived; at all of them if it `waits`.

        Several processes must look at the same moment: with a GPU, when a loss is so many steps old.
        """
        while self._waiting:
            moment, loss, arrival = self._waiting[0]
            if arrival is not None:
                is_recent = len(self._waiting) <= MAX_WAITING
                if not waits and is_recent and not (is_alone() and arrival.query()):
                    return
                arrival.synchronize()
            self._waiting.popleft()
            self._judge(float(loss), moment)

    def _judge(self, loss: float, moment: Moment) -> None:
        if not math.isfinite(loss):
            raise self._diverged(f"the loss became {loss}", moment)
        self._first = loss if self._first is None else self._first
        self._recent.append(loss)
        usual = max(self.chance_loss, self._first)
        median = statistics.median(self._recent)
        if len(self._recent) == WINDOW and median > self.explosion_factor * usual:
            raise self._diverged(
                f"the loss exploded to {median:.4g}, above divergence.explosion_factor={self.explosion_factor:g} "
                f"times {usual:.4g}",
                moment,
            )
        if self._fall is not None and not self.is_warned and (stuck := self._fall.add(loss, LEARNT * usual)):
            self._warn(stuck, moment)

    def _diverged(self, reason: str, moment: Moment) -> Diverged:
        return Diverged({"reason": reason, **asdict(moment), "files": self.files_of(moment.epoch, moment.batch)})

    def _warn(self, means: tuple[float, float], moment: Moment) -> None:
        self.is_warned = True
        text = (
            f"loss_not_decreasing: {means[1]:.4g} on average in the last {self.patience_steps} batches' second half, "
            f"{means[0]:.4g} in their first, at step {moment.step}; check the labels, raise or lower model.lr "
            f"(now {moment.lr:g}), or look with debug=overfit whether the model can learn one batch"
        )
        log.warning(text)
        self.note(warnings=[text])


class _Fall:
    """Compares the mean losses of successive halves of `steps`."""

    def __init__(self, steps: int) -> None:
        self.half = max(2, steps // 2)
        self.earlier: list[float] = []
        self.later: list[float] = []

    def add(self, loss: float, learnt: float) -> tuple[float, float] | None:
        """Both means when the later one is above `learnt` and no lower than by noise; else None."""
        self.later.append(loss)
        if len(self.later) < self.half:
            return None
        earlier, later, self.earlier, self.later = self.earlier, self.later, self.later, []
        if not earlier:
            return None
        before, after = statistics.fmean(earlier), statistics.fmean(later)
        noise = math.sqrt((statistics.variance(earlier) + statistics.variance(later)) / self.half)
        is_falling = before - after > max(noise, MIN_FALL * before)
        return None if is_falling or after < learnt else (before, after)


def _mean_loss(outputs: Any) -> torch.Tensor | None:
    """The loss of a batch over all processes, by what a training step returned; None where it returned no loss."""
    if not isinstance(outputs, Mapping):
        return mean(outputs.detach()) if isinstance(outputs, torch.Tensor) else None
    if (loss := outputs.get("mean_loss")) is None and (loss := outputs.get("loss")) is not None:
        loss = mean(loss.detach())
    return loss


def send_to_host(loss: torch.Tensor) -> tuple[torch.Tensor, Any]:
    """An asynchronous copy on the CPU and, from a GPU, the CUDA event of its completion."""
    loss = loss.detach()
    if loss.device.type != "cuda":
        return loss, None
    copy = loss.to("cpu", non_blocking=True)
    arrival = torch.cuda.Event()
    arrival.record()
    return copy, arrival


def are_finite(state: dict[str, Any]) -> bool:
    """Whether all numbers of a state are finite, with one synchronisation of the device."""
    tensors = [value for value in state.values() if isinstance(value, torch.Tensor)]
    numbers = [tensor.detach() for tensor in tensors if tensor.is_floating_point() and tensor.numel()]
    largest = [tensor.abs().amax().float() for tensor in numbers]
    return not largest or bool(torch.stack(largest).isfinite().all())
