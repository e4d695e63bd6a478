"""What this machine offers a training run."""

import math
import os
from contextlib import suppress
from pathlib import Path


def cpu_count(quota_file=Path('/sys/fs/cgroup/cpu.max')):
    """Return how many CPUs this process may use: its affinity, within its container's quota."""
    affinity = getattr(os, 'sched_getaffinity', None)  # not of macOS and Windows
    count = len(affinity(0)) if affinity else os.cpu_count() or 1
    with suppress(OSError, ValueError):  # no container, or 'max'
        quota, period = map(int, quota_file.read_text().split())
        count = min(count, math.ceil(quota / period))
    return count


def memory():
    """Return the bytes of memory that the machine has; infinity where the system does not say."""
    try:
        return os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    except (AttributeError, ValueError):  # Windows
        return math.inf


def has_bfloat16():
    """Tell whether the CPU multiplies bfloat16 natively (AVX512-BF16 or AMX); Linux says so."""
    cpu = Path('/proc/cpuinfo')
    return cpu.exists() and not {'avx512_bf16', 'amx_bf16'}.isdisjoint(cpu.read_text().split())
