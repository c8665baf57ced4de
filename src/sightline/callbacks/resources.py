"""Resource use of a run: processor, memory and GPU."""

import threading
import time
from typing import Any

import psutil
import torch


class Resources(threading.Thread):
    """Looks every `every_seconds` at the processor and memory of this process with its workers, and at the GPU."""

    def __init__(self, every_seconds: float = 0.25) -> None:
        super().__init__(daemon=True, name="resources")
        self.every_seconds = every_seconds
        self.samples: list[dict[str, float]] = []
        self._known: dict[int, psutil.Process] = {}
        self._gpu = _Gpu() if torch.cuda.is_available() else None
        self._end = threading.Event()

    def run(self) -> None:
        self._look()  # psutil counts from one look to the next
        began = time.perf_counter()
        while not self._end.wait(self.every_seconds):
            sample = {"seconds": round(time.perf_counter() - began, 3), **self._look()}
            self.samples.append(sample)

    def finish(self) -> list[dict[str, float]]:
        self._end.set()
        self.join()
        return self.samples

    def _look(self) -> dict[str, float]:
        """Busy cores and gigabytes of memory; shared memory counts in each process."""
        main = psutil.Process()
        cores = num_bytes = 0.0
        for process in (main, *main.children(recursive=True)):
            process = self._known.setdefault(process.pid, process)
            try:
                cores += process.cpu_percent(None) / 100
                num_bytes += process.memory_info().rss
            except psutil.Error:  # a worker that has just ended
                self._known.pop(process.pid, None)
        return {
            "cores": round(cores, 3),
            "memory_gb": round(num_bytes / 1e9, 3),
            **(self._gpu.look() if self._gpu else {}),
        }


class _Gpu:
    """Memory from torch, and the share of time in use where NVIDIA's library is installed."""

    def __init__(self) -> None:
        self._use: Any = None
        try:
            import pynvml  # pyright: ignore[reportMissingImports]

            pynvml.nvmlInit()
            handle = pynvml.nvmlDeviceGetHandleByIndex(torch.cuda.current_device())
            self._use = lambda: pynvml.nvmlDeviceGetUtilizationRates(handle).gpu
        except Exception:  # noqa: BLE001  (not installed, or no driver: then there is nothing to show)
            self._use = None

    def look(self) -> dict[str, float]:
        memory = {"gpu_memory_gb": round(torch.cuda.memory_reserved() / 1e9, 3)}
        return memory if self._use is None else {**memory, "gpu_percent": float(self._use())}
