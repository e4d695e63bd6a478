"""Speed and memory of the data: decoding all of CelebA, later epochs, opening the cache, MNIST.

The sample faces, linked again and again under new names, stand for a set of `--count` images.
Every measurement runs in a process of its own, `--repeats` times, and prints one JSON line: the
median and the spread; faces also how many times the exercise's `get_batch` of the same round.
Memory is the proportional set size (Linux) of the process and of those that it starts, above that
of the interpreter with `helper` imported.

    python benchmarks/data.py [--count 202599] [--repeats 3] [--data-dir data]
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import psutil

from measuring import ROOT, in_process, megabytes, peak_memory_of_children, summary

sys.path.insert(0, str(ROOT))

import helper

BATCH = 64
EXERCISE = 3200  # images that the exercise's way is timed on


def exercise(folder):
    """Return images/s of the exercise's `get_batch`, which decodes again for every batch."""
    files = sorted(map(str, Path(folder).glob('*.jpg')))[:EXERCISE]
    started = time.perf_counter()
    for first in range(0, len(files), BATCH):
        helper.get_batch(files[first : first + BATCH], 28, 28, 'RGB')
    return {'images_per_second': len(files) / (time.perf_counter() - started)}


def first_pass(folder):
    """Return images/s of decoding everything into the cache, and the memory that it needed."""
    before = megabytes(psutil.Process())
    with peak_memory_of_children() as peak_of_workers:
        started = time.perf_counter()
        dataset = helper.Dataset('celeba', folder)
        seconds = time.perf_counter() - started
    return {
        'images_per_second': len(dataset.pixels) / seconds,
        'megabytes': megabytes(psutil.Process()) - before + peak_of_workers(),
        'equal': equal(dataset, folder),
    }


def equal(dataset, folder):
    """Return whether 1,000 of the pixels are to the byte what `get_batch` makes of the files."""
    files = sorted(map(str, Path(folder).glob('*.jpg')))
    chosen = np.linspace(0, len(files) - 1, 1000).astype(int)
    expected = helper.get_batch([files[i] for i in chosen], 28, 28, 'RGB')
    return bool((dataset.pixels[chosen] == expected).all())


def later_epochs(folder):
    """Return images/s of shuffled batches out of the cache."""
    with redirect_stdout(sys.stderr):
        dataset = helper.Dataset('celeba', folder)
    count = 0
    started = time.perf_counter()
    for epoch in range(max(1, 200_000 // len(dataset.pixels))):
        count += sum(len(images) for images in dataset.get_batches(BATCH, epoch=epoch))
    return {'images_per_second': count / (time.perf_counter() - started)}


def opening(folder):
    """Return the seconds until a cache is open."""
    started = time.perf_counter()
    helper.Dataset('celeba', folder)
    return {'seconds': time.perf_counter() - started}


def digits(file):
    """Return the seconds from an IDX file of MNIST without a cache to the first batch."""
    started = time.perf_counter()
    next(helper.Dataset('mnist', file).get_batches(BATCH))
    return {'seconds': time.perf_counter() - started}


MEASURES = {
    measure.__name__: measure for measure in (exercise, first_pass, later_epochs, opening, digits)
}


def linked(sample, count, folder):
    """Fill `folder` with `count` names for copies of the images of `sample`, which stay as they are."""
    copies = Path(folder).with_name('copies')
    shutil.copytree(sample, copies)
    files = sorted(copies.glob('*.jpg'))
    Path(folder).mkdir()
    for number in range(count):
        name = Path(folder, f'{number + 1:06}.jpg')
        file = files[number % len(files)]
        try:
            os.link(file, name)
        except OSError:  # too many links to one file
            shutil.copyfile(file, name)


def report(name, count, results, exercises=()):
    """Print one line about the repeats of a measurement."""
    line = {'benchmark': 'data', 'measure': name, 'images': count}
    for key in results[0]:
        values = [result[key] for result in results]
        if key == 'equal':
            line[key] = all(values)
        else:
            line |= summary(key, values, 4 if key == 'seconds' else None)
    if exercises:
        ratios = [
            result['images_per_second'] / of_exercise['images_per_second']
            for result, of_exercise in zip(results, exercises, strict=True)
        ]
        line['times_the_exercise'] = round(statistics.median(ratios), 2)
    print(json.dumps(line), flush=True)


def main():
    """Measure everything, or one thing as a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--count', type=int, default=202_599, help='of the faces')
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--data-dir', type=Path, default=ROOT / 'data')
    parser.add_argument('--measure', nargs=2, metavar=('NAME', 'PATH'), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        name, path = options.measure
        print(json.dumps(MEASURES[name](path)))
        return
    with redirect_stdout(sys.stderr):
        sample = helper.download_extract('celeba', options.data_dir, data='sample')
        idx = Path(helper.download_extract('mnist', options.data_dir))
    faces = ('exercise', 'first_pass', 'later_epochs', 'opening')
    results = {name: [] for name in (*faces, 'digits')}
    with tempfile.TemporaryDirectory() as folder:
        copies = Path(folder, 'faces')
        linked(sample, options.count, copies)
        for number in range(options.repeats):
            shutil.rmtree(Path(folder, 'faces.cache'), ignore_errors=True)
            for name in faces:
                results[name].append(in_process(__file__, '--measure', name, copies))
            digits_file = Path(folder, str(number), idx.name)
            digits_file.parent.mkdir()
            shutil.copyfile(idx, digits_file)
            results['digits'].append(in_process(__file__, '--measure', 'digits', digits_file))
        for name in faces:
            compared = results['exercise'] if name in ('first_pass', 'later_epochs') else ()
            report(name, options.count, results[name], compared)
        count, *_ = helper.Dataset('mnist', digits_file).shape
        report('digits', count, results['digits'])


if __name__ == '__main__':
    main()
