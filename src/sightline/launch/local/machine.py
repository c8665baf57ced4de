"""What this machine has, and each job's share of it."""

import functools
import os
import platform
import subprocess
from pathlib import Path

THREAD_LIMITS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def environments(n_parallel: int) -> list[dict[str, str]]:
    """The environment of each of `n_parallel` slots: a share of the cores and, of several GPUs, one of its own."""
    shares = [{} if n_parallel == 1 else _threads(n_parallel) for _ in range(n_parallel)]
    gpus = visible_gpus() if n_parallel > 1 else []
    if len(gpus) > 1:
        for number, share in enumerate(shares):
            share["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
    return shares


def _threads(n_parallel: int) -> dict[str, str]:
    """Thread limits for one job; those that the environment has stay where they are lower."""
    share = max(1, num_cores() // n_parallel)
    limits = {}
    for name in THREAD_LIMITS:
        given = os.environ.get(name, "")
        limits[name] = str(min(share, int(given)) if given.isdigit() and int(given) else share)
    return limits


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """The GPUs that this process sees, as `CUDA_VISIBLE_DEVICES` names them; asked of the driver, not torch."""
    limited = os.environ.get("CUDA_VISIBLE_DEVICES")
    if limited is not None:
        return [name for name in limited.split(",") if name.strip()]
    return list(_gpus_of_the_driver())


@functools.cache  # it may take a second, and is asked for with every job
def _gpus_of_the_driver() -> tuple[str, ...]:
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(listed.stdout.split())


@functools.cache
def describe_machine() -> str:
    """The cores that this process may use, and the processor as the system calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{num_cores()} cores, {names[0] if names else platform.machine()}"
