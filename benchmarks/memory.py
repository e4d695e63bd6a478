"""Memory, threads and open files of a long training: all should stay where they are.

Trains a tiny network for `--steps` steps in this process, with a grid, a checkpoint and an evaluation
every 50. Prints one JSON line: resident megabytes at each tenth, the slope behind the first fifth, and the
least and most threads and open files there. Linux only.

    python benchmarks/memory.py [--steps 5000]
"""

import argparse
import json
import os
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import helper  # noqa: E402
from facegen import notebook  # noqa: E402
from facegen.evaluation import QuickEvaluation  # noqa: E402
from facegen.recipes import Recipe  # noqa: E402

TINY = Recipe(d_filters=(4, 8), g_filters=(8, 4), z_dim=8, batch_size=8, ema_half_life=1000)


def state():
    """Return (resident megabytes, threads, open files) of this process."""
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    megabytes = pages * os.sysconf('SC_PAGE_SIZE') / 2**20
    return megabytes, len(os.listdir('/proc/self/task')), len(os.listdir('/proc/self/fd'))


def main():
    """Train, and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--steps', type=int, default=5000)
    steps = parser.parse_args().steps
    seen = []
    with redirect_stdout(sys.stderr), tempfile.TemporaryDirectory() as folder:
        dataset = helper.Dataset('mnist', data_path=ROOT / 'data', data='sample')

        def get_batches(batch_size):
            for number, images in enumerate(dataset.get_batches(batch_size)):
                if number % 50 == 0:
                    seen.append(state())
                yield images

        notebook.definitions().train(
            None, TINY.batch_size, TINY.z_dim, TINY.learning_rate, TINY.beta1, get_batches,
            dataset.shape, dataset.image_mode, recipe=TINY, max_steps=steps, show_every=50,
            run_dir=f'{folder}/run', evaluation=QuickEvaluation('mnist', dataset.pixels[:1000]),
        )  # fmt: skip
    megabytes, threads, files = np.transpose(seen[len(seen) // 5 :])
    at = 50 * np.arange(len(megabytes))
    print(
        json.dumps(
            {
                'benchmark': 'memory',
                'steps': steps,
                'megabytes': [round(m) for m, *_ in seen[:: max(1, len(seen) // 10)]],
                'megabytes_per_1000_steps': round(1000 * np.polyfit(at, megabytes, 1)[0], 2),
                'threads': [int(threads.min()), int(threads.max())],
                'open_files': [int(files.min()), int(files.max())],
            }
        )
    )


if __name__ == '__main__':
    main()
