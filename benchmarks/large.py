"""Millions of images: time and memory to list, decode, open and pass them, and to train on them.

The sample faces, linked again and again under new names, stand for a set of `--count` images. All its
names are listed and looked at (which is quicker than for as many files, since the system knows the 999 already),
and the images of one shard are decoded, in four parts that are joined. The pixels of the whole set would
need 61 GB for five million images of 64x64: in their place stand zeros in a sparse file, which needs none, and
500,000 of them are read, in the order of a shuffled epoch. With `--decode`, for which the disk needs to have room,
all images are decoded instead. Last, TensorFlow opens a session, and
`faces` is trained for a few steps, on all images and on the 999. Each step runs in a process of its own and
prints one JSON line. Its memory is the most that it needed (proportional set size, on Linux) above the interpreter
with `helper` imported; of decoding, that of all its processes together.

    python benchmarks/large.py [--count 5000000] [--side 64] [--data-dir data]
    python benchmarks/large.py --decode --count 202599 --side 128
"""

import argparse
import itertools
import json
import math
import sys
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path
from unittest.mock import patch

from data import linked
from measuring import ROOT, in_process, machine, peak_memory_of_children

sys.path.insert(0, str(ROOT))

import helper
from facegen import notebook
from facegen.data import cache, shards
from facegen.data.listing import list_images
from facegen.evaluation import QuickEvaluation
from facegen.recipes import recipe_named

BATCH = 64
READ = 500_000  # images of an epoch
TRAINED = 20  # steps


def nothing(folder, side, count):
    """Return nothing after a second, in which the memory of the interpreter is seen."""
    time.sleep(1)
    return {}


def tensorflow(folder, side, count):
    """Open a session and run it, which needs what TensorFlow needs in any program."""
    from facegen import session

    with session.tf.Session(config=session.config('auto')) as sess:
        sess.run(session.tf.constant(0))
    return nothing(folder, side, count)


def listing(folder, side, count):
    """List all files, as the first process does that wants them."""
    return {'images': len(list_images(folder).keys)}


def shard(folder, side, count):
    """Decode the images of one shard, in four parts, and join them."""
    count = min(count, shards.SHARD)
    files = [Path(folder, f'{number + 1:06}.jpg') for number in range(count)]
    with patch.object(shards, 'SHARD', math.ceil(count / 4)):
        return {'images': len(helper.Dataset('celeba', files, width=side, height=side).pixels)}


def cache_of_zeros(folder, side, count):
    """Make a cache, with all that belongs to it but the pixels."""

    def zeros(hashed, image_set, keys):
        height, width, channels = image_set.shape
        hashed.file.truncate(len(keys) * height * width * channels)
        return shards.Images(len(keys), [], {})

    one_file = patch.object(cache, 'shards_of', lambda *args: None)
    with one_file, patch.object(cache, 'decode_to', zeros):
        return {'images': len(helper.Dataset('celeba', folder, width=side, height=side).pixels)}


def opening(folder, side, count):
    """Open the cache, which looks for changes; decode the images where there is none."""
    return {'images': len(helper.Dataset('celeba', folder, width=side, height=side).pixels)}


def epoch(folder, side, count):
    """Read images in shuffled batches."""
    dataset = helper.Dataset('celeba', folder, width=side, height=side)
    batches = itertools.islice(dataset.get_batches(BATCH, epoch=0), READ // BATCH)
    return {'images': sum(map(len, batches))}


def training(folder, side, count):
    """Train `faces` for a few steps, with a grid and an evaluation before and after."""
    dataset = helper.Dataset('celeba', folder, width=side, height=side)
    recipe = recipe_named('faces', side)
    with tempfile.TemporaryDirectory() as run_dir:
        notebook.definitions().train(
            None, recipe.batch_size, recipe.z_dim, recipe.learning_rate, recipe.beta1,
            dataset.get_batches, dataset.shape, dataset.image_mode, recipe=recipe,
            evaluation=QuickEvaluation('celeba', dataset.pixels), max_steps=TRAINED, run_dir=f'{run_dir}/run',
        )  # fmt: skip
    return {'images': len(dataset.pixels)}


def training_on_few(folder, side, count):
    """Train on the 999 faces."""
    return training(Path(folder).with_name('copies'), side, count)


STEPS = {
    step.__name__: step
    for step in (
        nothing,
        listing,
        shard,
        cache_of_zeros,
        opening,
        epoch,
        tensorflow,
        training,
        training_on_few,
    )
}


def main():
    """Measure all steps, or take one, as a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--count', type=int, default=5_000_000)
    parser.add_argument('--side', type=int, default=64, help='of the images, in pixels')
    parser.add_argument('--data-dir', type=Path, default=ROOT / 'data')
    parser.add_argument('--decode', action='store_true', help='all images, instead of zeros')
    parser.add_argument('--step', nargs=2, metavar=('NAME', 'PATH'), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        name, folder = options.step
        started = time.perf_counter()
        with redirect_stdout(sys.stderr):
            result = STEPS[name](folder, options.side, options.count)
        print(json.dumps({**result, 'seconds': round(time.perf_counter() - started, 1)}))
        return
    with redirect_stdout(sys.stderr):
        sample = helper.download_extract('celeba', options.data_dir, data='sample')
    with tempfile.TemporaryDirectory(dir=options.data_dir) as folder:
        files, interpreter = Path(folder, 'faces'), 0
        linked(sample, options.count, files)
        for name in STEPS:
            if options.decode and name in ('shard', 'cache_of_zeros'):
                continue
            with peak_memory_of_children() as peak:
                arguments = '--step', name, files, '--side', options.side, '--count', options.count
                result = in_process(__file__, *arguments)
            if name == 'nothing':
                interpreter = peak()
                continue
            line = {'benchmark': 'large', 'step': name, 'side': options.side, **result}
            line |= {'megabytes': round(peak() - interpreter), 'machine': machine()}
            print(json.dumps(line), flush=True)


if __name__ == '__main__':
    main()
