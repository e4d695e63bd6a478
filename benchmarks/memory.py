"""Memory, threads, open files and time of a long training: all should stay where they are.

Trains a tiny network in this process, for `--epochs` epochs of 50 steps, with a grid, a checkpoint and an
evaluation after each. Prints one JSON line: resident megabytes at each tenth of the way, the slope after
the first fifth, the least and most threads and open files there, and milliseconds of a step, all that
comes with it included, in each tenth: medians over its epochs. Linux only.

    python benchmarks/memory.py [--epochs 100]
"""

import argparse
import itertools
import json
import os
import sys
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np

from measuring import ROOT

sys.path.insert(0, str(ROOT))

import helper
from facegen import notebook
from facegen.evaluation import QuickEvaluation
from facegen.recipes import Recipe

TINY = Recipe(d_filters=(4, 8), g_filters=(8, 4), z_dim=8, batch_size=8, ema_half_life=1000)


STEPS = 50  # of an epoch


def state():
    """Return (seconds on a clock, resident megabytes, threads, open files) of this process."""
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    megabytes = pages * os.sysconf('SC_PAGE_SIZE') / 2**20
    threads, files = (len(os.listdir(f'/proc/self/{name}')) for name in ('task', 'fd'))
    return time.perf_counter(), megabytes, threads, files


def states_of_training(epochs):
    """Train for so many epochs; return the `state` before the first epoch and after every one."""
    dataset = helper.Dataset('mnist', data_path=ROOT / 'data', data='sample')
    seen = []

    def get_batches(batch_size):
        seen.append(state())
        return itertools.islice(dataset.get_batches(batch_size), STEPS)

    with tempfile.TemporaryDirectory() as folder:
        notebook.definitions().train(
            epochs, TINY.batch_size, TINY.z_dim, TINY.learning_rate, TINY.beta1, get_batches,
            (STEPS * TINY.batch_size, *dataset.shape[1:]), dataset.image_mode, recipe=TINY,
            show_every=STEPS, run_dir=f'{folder}/run',
            evaluation=QuickEvaluation('mnist', dataset.pixels[:1000]),
        )  # fmt: skip
    return [*seen, state()]


def main():
    """Train, and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--epochs', type=int, default=100, help='at least 10')
    epochs = parser.parse_args().epochs
    with redirect_stdout(sys.stderr):
        states = states_of_training(epochs)
    seconds, megabytes, threads, files = np.transpose(states)
    tenths = np.linspace(0, epochs, 11).astype(int)
    per_step = np.diff(seconds) / STEPS
    steady = slice(epochs // 5, None)
    slope, _ = np.polyfit(STEPS * np.arange(epochs + 1)[steady], megabytes[steady], 1)
    line = {
        'benchmark': 'memory',
        'epochs': epochs,
        'megabytes': megabytes[tenths].round().astype(int).tolist(),
        'megabytes_per_1000_steps': round(1000 * slope, 2),
        'threads': [int(threads[steady].min()), int(threads[steady].max())],
        'open_files': [int(files[steady].min()), int(files[steady].max())],
        'milliseconds_per_step': [
            round(1000 * np.median(per_step[first:last]), 2)
            for first, last in itertools.pairwise(tenths)
        ],
    }
    print(json.dumps(line))


if __name__ == '__main__':
    main()
