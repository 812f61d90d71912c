"""What the scripts of `lockstep bench peers` and `bench models` share: how PyTorch is set up, what it computes with, and how a step is timed."""

import statistics
import time

import torch


def set_up(threads):
    """Threads of everything that PyTorch computes with; the environment gives OpenBLAS its own."""
    torch.set_num_threads(threads)
    torch.manual_seed(1)


def settings():
    """What PyTorch is, and which library multiplies its matrices.

    Debian's package computes with whatever libblas.so.3 leads to, and its default computes dense layers many times slower.
    """
    torch.randn(8, 8) @ torch.randn(8, 8)
    blas = "MKL" if torch.backends.mkl.is_available() else library_of("openblas", "blis", "flexiblas", "libarmpl", "libblas")
    return {
        "peer": "PyTorch " + torch.__version__,
        "threads": torch.get_num_threads(),
        "blas": blas or "unknown",
        "slow_blas": blas.startswith("libblas"),
    }


def library_of(*names):
    """The first of these libraries that this process has loaded; an empty string for none, or where it cannot be told."""
    try:
        with open("/proc/self/maps") as maps:
            files = sorted({line.split()[-1].rsplit("/", 1)[-1] for line in maps if "/" in line})
    except OSError:
        return ""
    return next((file for name in names for file in files if name in file), "")


def time_steps(step, examples, warmup, steps):
    """Runs `step`, which gives its loss. Times are medians."""
    losses = [step() for _ in range(warmup)]
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        losses.append(step())
        times.append(time.perf_counter() - start)
    median = statistics.median(times)
    return {
        "examples_per_second": examples / median,
        "step_ms": 1e3 * median,
        "min_ms": 1e3 * min(times),
        "max_ms": 1e3 * max(times),
        "first_losses": losses[:3],
    }
