"""What the benchmarks share: measuring in a process of its own, repeats, and the memory of processes."""

import json
import platform
import re
import statistics
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent


def in_process(script, *arguments, python=sys.executable):
    """Return the JSON that a script, in a process of its own, prints in its last line."""
    command = [str(part) for part in (python, script, *arguments)]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def machine():
    """Return the machine and the versions that a figure depends on, in one line."""
    from facegen import session

    processor, memory = platform.processor() or platform.machine(), psutil.virtual_memory().total
    cpu = Path('/proc/cpuinfo')
    if cpu.exists():
        names = re.findall(r'model name\s*: (.+)', cpu.read_text())
        processor = names[0] if names else processor
    about = session.versions()
    return (
        f'{processor}, {about["device"]}, {memory / 2**30:.0f} GB, {platform.system()}, '
        f'Python {about["python"]}, TensorFlow {about["tensorflow"]}'
    )


def summary(name, values, digits=None):
    """Return {name: the median, name_spread: [least, most]} of repeats, rounded."""
    return {
        name: round(statistics.median(values), digits),
        f'{name}_spread': [round(min(values), digits), round(max(values), digits)],
    }


def memory_of_children():
    """Return the megabytes of all processes below this one: what several share is counted once.

    On Linux, programs beside them that use the same libraries take over a part of these: it is too low
    where other training goes on.
    """
    return sum(map(megabytes, psutil.Process().children(recursive=True)))


def megabytes(process):
    """Return the memory of a `psutil.Process`, 0 if it has ended.

    The proportional set size on Linux; elsewhere, what no other process shares.
    """
    try:
        memory = process.memory_full_info()
        return getattr(memory, 'pss', memory.uss) / 2**20
    except psutil.NoSuchProcess:
        return 0.0


@contextmanager
def peak_memory_of_children(seconds=0.2):
    """Inside, look every so many seconds; yield a function that returns the most megabytes yet."""
    peak, over = 0.0, threading.Event()

    def watch():
        nonlocal peak
        while not over.wait(seconds):
            peak = max(peak, memory_of_children())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield lambda: peak
    finally:
        over.set()
        watcher.join()
