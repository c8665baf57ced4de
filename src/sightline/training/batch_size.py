"""How many images of a training step fit into memory."""

import ctypes
import gc
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch

from sightline.models.classifier import Classifier
from sightline.models.inference import DTYPES, autocast

SMALLEST = 2
"""Batch norm cannot train on one image."""
SHARE_OF_HOST, SHARE_OF_GPU = 0.8, 0.9
"""Of the free memory: workers, validation and fragments need the rest."""
LONGEST_SECONDS = 5.0
"""A step that takes longer is not doubled any more; what twice the images need is then computed."""
MEMORY_ERRORS = (
    "can't allocate memory",
    "out of memory",
    "bad_alloc",
    "bad allocation",
    "could not create a memory",
    "could not create a primitive",
)
"""What PyTorch and oneDNN say in their RuntimeErrors."""


class OutOfMemory(RuntimeError):
    """A training step does not fit into memory; the message says which settings would."""


def is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error).lower() for words in MEMORY_ERRORS)
    )


def explain_out_of_memory(cause: str, batch_size: int, accumulated: int, fitting: int | None) -> OutOfMemory:
    """What to change: the batch size that fits, and how to keep the effective one."""
    text = f"data.batch_size={batch_size}: a step of so many images does not fit into memory ({cause}); "
    if fitting is None:
        return OutOfMemory(f"{text}not even a few do: use a smaller data.image_size or model.name")
    steps = math.ceil(batch_size * accumulated / fitting)
    return OutOfMemory(
        f"{text}set data.batch_size={fitting}, and trainer.accumulate_grad_batches={steps} to keep the effective "
        f"batch of {batch_size * accumulated}"
    )


def find_batch_size(classifier: Classifier, *, device: torch.device, precision: str, most: int) -> int | None:
    """The largest power of two up to `most` whose training step fits; None when not even two images do.

    Doubles the batch while the memory of the next step, as it grew with the last, is free. The classifier's weights
    are not the same afterwards. A compiled network runs as it was written: compiling for every size would take minutes.
    """
    probe = _Probe(classifier, device, precision)
    fitting: list[int] = []
    try:
        with torch.compiler.set_stance("force_eager"):
            for size in probe.sizes(most):
                fitting.append(size)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    finally:
        probe.close()
    return max(fitting, default=None)


class _Probe:
    """Takes real training steps on random images and measures their memory."""

    def __init__(self, classifier: Classifier, device: torch.device, precision: str) -> None:
        self.classifier, self.device, self.precision = classifier, device, precision
        width, kind = precision.split("-")
        self.dtype = DTYPES[width] if kind == "true" else torch.float32
        self.peak = 0

    def sizes(self, most: int) -> Iterator[int]:
        """Sizes that fit, each twice the last.

        Raises: PyTorch's error where memory ends before its size could be foreseen.
        """
        free, previous, size = self._prepare(), 0, SMALLEST
        while size <= most:
            used, seconds = self._measure(size)
            if used > free and size > SMALLEST:
                return  # it went through, and would leave too little for what else a run needs
            yield size
            growth = max(0, used - previous)
            while seconds > LONGEST_SECONDS and 2 * size <= most and used + 2 * growth <= free:
                size, used, growth = 2 * size, used + 2 * growth, 2 * growth
                yield size  # computed, because trying would take long
            if seconds > LONGEST_SECONDS or used + 2 * growth > free:
                return
            previous, size = used, 2 * size

    def close(self) -> None:
        """Leave the memory to others."""
        self.optimizer = None
        self.classifier.zero_grad(set_to_none=True)
        self.classifier.to("cpu")
        gc.collect()
        self._give_back()

    def _prepare(self) -> int:
        """What may be used after a first small step, which makes the optimizer's state and the libraries' buffers."""
        self.classifier.to(self.device, self.dtype).train()
        self.optimizer = self.classifier.make_optimizer()
        self._step(SMALLEST)
        self._give_back()
        if self.device.type == "cuda":
            return int(torch.cuda.mem_get_info(self.device)[0] * SHARE_OF_GPU)
        return int(available_memory() * SHARE_OF_HOST)

    def _measure(self, size: int) -> tuple[int, float]:
        """Bytes that one step of so many images takes beyond what is always there, and its seconds."""
        self._give_back()
        before = self._size()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        start = time.perf_counter()
        self._step(size)
        return max(0, self.peak - before), time.perf_counter() - start

    def _size(self) -> int:
        on_gpu = self.device.type == "cuda"
        return torch.cuda.memory_reserved(self.device) if on_gpu else psutil.Process().memory_info().rss

    def _step(self, size: int) -> None:
        """One training step; `peak` is then the most memory that it held."""
        assert self.optimizer is not None
        spec = self.classifier.spec
        images = torch.rand(size, spec.channels, spec.image_size, spec.image_size, device=self.device, dtype=self.dtype)
        labels = torch.arange(size, device=self.device) % spec.num_classes
        self.optimizer.zero_grad(set_to_none=True)
        with autocast(self.precision, self.device):
            loss = self.classifier.objective(images, labels)[0]
        self.peak = self._size()  # all that backward needs is there now
        loss.backward()
        self.optimizer.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            self.peak = torch.cuda.max_memory_reserved(self.device)
        self.peak = max(self.peak, self._size())  # a processor's allocator keeps what it has freed

    def _give_back(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        give_back_memory()


def give_back_memory() -> None:
    """Let glibc return what is free to the kernel, so that a process's size shows what it uses."""
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)


def available_memory(groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that this process can still take without swapping: of the machine, its control group, its own limit."""
    limits = (psutil.virtual_memory().available, _group_memory(groups), _address_space())
    return min(limit for limit in limits if limit is not None)


def _address_space() -> int | None:
    """Half of what is left below this process's own limit (`ulimit -v`): freed addresses come back in pieces."""
    if sys.platform != "linux":
        return None
    import resource

    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if most == resource.RLIM_INFINITY else max(0, most - psutil.Process().memory_info().vms) // 2


def _group_memory(folder: Path) -> int | None:
    """What is left below a control group's limit; files in its page cache count as free."""
    for limit, used, statistic in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            most, now = int((folder / limit).read_text()), int((folder / used).read_text())
            lines = (folder / limit).with_name("memory.stat").read_text().splitlines()
        except (OSError, ValueError):  # no such group, or "max"
            continue
        pages = dict(line.split() for line in lines if len(line.split()) == 2)
        return max(0, most - now + int(pages.get(statistic, 0)))
    return None
