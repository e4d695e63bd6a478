"""What the benchmarks share: measuring in a process of its own, repeats, and the memory of processes."""

import json
import statistics
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).parent.parent


def in_process(script, *arguments, python=sys.executable):
    """Return the JSON that a script, in a process of its own, prints in its last line."""
    command = [str(part) for part in (python, script, *arguments)]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def summary(name, values, digits=None):
    """Return {name: the median, name_spread: [least, most]} of repeats, rounded."""
    return {
        name: round(statistics.median(values), digits),
        f'{name}_spread': [round(min(values), digits), round(max(values), digits)],
    }


def memory_of_children(process='self'):
    """Return the megabytes of all processes below one: what several share is counted once.

    That is their proportional set sizes, which only Linux knows. Programs beside them that use the same
    libraries take over a part of these: it is too low where other trainings run.
    """
    total = 0
    for task in Path(f'/proc/{process}/task').glob('*'):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            for child in (task / 'children').read_text().split():
                memory = Path(f'/proc/{child}/smaps_rollup').read_text()
                total += int(memory.partition('\nPss:')[2].split()[0]) / 1024  # kB
                total += memory_of_children(child)
    return total


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
