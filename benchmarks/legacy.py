"""Speed of an old notebook's training loop, as it ran in 2017 and as `facegen legacy` runs it.

The loop is the old one in both: two runs of the session a step, batches by `feed_dict`. As in 2017,
every batch is decoded from JPEGs and the session has TensorFlow's own configuration; `legacy` takes
the batches from the cache and configures the session. Prints one JSON line per data set and way:
images a second, and CPU seconds a step, which other programs disturb less.

    python benchmarks/legacy.py --steps 30
"""

import argparse
import json
import sys
import time
from contextlib import redirect_stdout

from measuring import ROOT

sys.path.insert(0, str(ROOT))

from facegen import notebook, session  # isort: skip
from facegen.data.crop import get_batch
from facegen.data.dataset import Dataset
from facegen.legacy.data import ClassicData

import numpy as np  # isort: skip
import tensorflow.compat.v1 as tf  # isort: skip

BATCH_SIZE, Z_DIM = 64, 100
WARM_UP = 3  # steps that are not counted


def batches_of_2017(files, mode):
    """Yield float32 batches in [-0.5, 0.5], decoded from the files at every pass."""
    while True:
        for start in range(0, len(files) - BATCH_SIZE + 1, BATCH_SIZE):
            batch = files[start : start + BATCH_SIZE]
            yield get_batch(batch, 28, 28, mode) / 255 - 0.5


def batches_of_dataset(dataset):
    """Yield the batches of a `Dataset` over and over."""
    while True:
        yield from dataset.get_batches(BATCH_SIZE)


def measure(functions, batches, channels, config, steps):
    """Return (wall, CPU) seconds a step of a textbook GAN, the median of `steps`."""
    rng = np.random.default_rng(0)
    with tf.Graph().as_default(), tf.Session(config=config) as sess:
        real, z, rate = functions.model_inputs(28, 28, channels, Z_DIM)
        d_loss, g_loss = functions.model_loss(real, z, channels)
        d_train, g_train = functions.model_opt(d_loss, g_loss, rate, 0.5)
        sess.run(tf.global_variables_initializer())
        clocks = []
        for _ in range(WARM_UP + steps + 1):
            clocks.append((time.perf_counter(), time.process_time()))
            feed = {
                real: next(batches) * 2,
                z: rng.uniform(-1, 1, [BATCH_SIZE, Z_DIM]),
                rate: 2e-4,
            }
            sess.run(d_train, feed)
            sess.run(g_train, feed)
    return np.median(np.diff(clocks[WARM_UP:], axis=0), axis=0)


def main():
    """Measure both ways on both samples."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--steps', type=int, default=30)
    arguments = parser.parse_args()
    functions, classic = notebook.definitions(), ClassicData()
    classic.use(ROOT / 'data', 'sample')
    for name, mode in ('mnist', 'L'), ('celeba', 'RGB'):
        with redirect_stdout(sys.stderr):
            files = [str(file) for file in classic.folder(name).iterdir()]
            dataset = Dataset(name, classic.sources[name])
        ways = {
            '2017': (batches_of_2017(files, mode), None),
            'legacy': (batches_of_dataset(dataset), session.config()),
        }
        for way, (batches, config) in ways.items():
            wall, cpu = measure(functions, batches, len(mode), config, arguments.steps)
            result = {
                'benchmark': 'legacy',
                'dataset': name,
                'way': way,
                'images_per_second': round(BATCH_SIZE / wall, 1),
                'cpu_seconds_per_step': round(float(cpu), 3),
            }
            print(json.dumps({**result, **session.versions()}), flush=True)


if __name__ == '__main__':
    main()
