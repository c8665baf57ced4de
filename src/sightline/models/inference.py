"""Device and precision of a network, and its outputs over batches."""

import ctypes
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from sightline.errors import BadInput

DTYPES = {"16": torch.float16, "bf16": torch.bfloat16, "32": torch.float32, "64": torch.float64}


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3)."""


def keep_freed_memory() -> None:
    """Let glibc keep what a step frees for the next one, instead of asking the kernel for zeroed pages each time.

    Worth 8 to 15 % of a training step on two cores; elsewhere than on glibc nothing happens.
    """
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt") and hasattr(library, "gnu_get_libc_version"):
        library.mallopt(M_MMAP_THRESHOLD, 1 << 30)
        library.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


def set_tf32(allowed: bool) -> None:
    """Whether a GPU may multiply 32-bit numbers with 10 bits of mantissa, in matrix products and convolutions."""
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high" if allowed else "highest")
        torch.backends.cudnn.allow_tf32 = allowed


def choose_device(accelerator: str, preferred: str | None = None) -> torch.device:
    """`auto` takes the preferred device, as a run recorded it, if it is here, else a GPU when there is one.

    Raises: BadInput when the accelerator is not here.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if accelerator == "auto" and preferred is not None and available.get(torch.device(preferred).type, False):
        return torch.device(torch.device(preferred).type)
    if accelerator == "auto":
        return torch.device(next(name for name, here in available.items() if here))
    name = "cuda" if accelerator == "gpu" and available["cuda"] else accelerator
    if not available.get("mps" if name == "gpu" else name, False):
        here = ", ".join(name for name, is_here in available.items() if is_here)
        raise BadInput(f"accelerator={accelerator}: not on this machine; set it to one of: auto, {here}")
    return torch.device("mps" if name == "gpu" else name)


def choose_precision(precision: str, device: torch.device) -> str:
    """`auto` is bf16 mixed where the device computes it in hardware, else 32 bits.

    Raises: BadInput for 16-bit floats on a processor.
    """
    if precision.startswith("16-") and device.type == "cpu":
        raise BadInput(f"precision={precision}: 16-bit floats need a GPU; on this device use bf16-mixed or 32-true")
    if precision != "auto":
        return precision
    return "bf16-mixed" if _has_bf16(device) else "32-true"


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        features = torch.cpu.get_capabilities()
        return bool(features.get("amx_bf16") or features.get("avx512_bf16") or features.get("bf16"))
    return False


def autocast(precision: str, device: torch.device) -> AbstractContextManager:
    """The context in which `…-mixed` precisions run; the others need none."""
    width, kind = precision.split("-")
    return torch.autocast(device.type, DTYPES[width]) if kind == "mixed" else nullcontext()


class TorchRuntime:
    """A network as it was written, on one device and in one precision."""

    name = "torch"

    def __init__(
        self,
        network: nn.Module,
        prepare: Callable[[torch.Tensor], torch.Tensor],
        device: torch.device,
        precision: str,
        *,
        channels_last: bool = True,
    ) -> None:
        """`prepare` makes a batch into what the network takes, `(B, C, H, W)`; the network itself is moved and put into
        eval mode."""
        self.prepare, self.device, self.precision = prepare, device, precision
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        width, kind = precision.split("-")
        self.dtype = DTYPES[width] if kind == "true" else torch.float32
        moved = network.eval().to(device, memory_format=self.memory_format)  # pyright: ignore[reportCallIssue]
        self.network: nn.Module = moved.to(self.dtype)

    @torch.inference_mode()
    def logits(self, batch: torch.Tensor) -> torch.Tensor:
        """Logits float32 `(B, num_classes)` on the CPU."""
        with autocast(self.precision, self.device):
            images = self.prepare(batch.to(self.device, non_blocking=True))
            images = images.to(self.dtype).contiguous(memory_format=self.memory_format)
            return self.forward(images).float().cpu()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images)


def run_network(
    network: nn.Module,
    batches: Iterable[torch.Tensor],
    *,
    device: torch.device,
    precision: str,
    prepare: Callable[[torch.Tensor], torch.Tensor],
    channels_last: bool = True,
) -> torch.Tensor:
    """Logits float32 `(N, num_classes)` on the CPU for batches that `prepare` makes into `(B, C, H, W)`."""
    runtime = TorchRuntime(network, prepare, device, precision, channels_last=channels_last)
    return torch.cat([runtime.logits(batch) for batch in batches])
