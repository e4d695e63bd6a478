"""Which features of faces tell good images from bad: a ladder of damage, in several spaces.

Half of the sample's faces are the reference. Sets made of the other half, and images that
generators draw, are put beside it by Fréchet and kernel distance, in every candidate space, for
several random halves. Prints one JSON line for each candidate and set: medians over the halves, and
`*_effect`, the mean of (distance of the set - distance of undamaged faces) over its standard
deviation. A right candidate ranks faces < blurred < half-trained < noise, and faces < repeated.

    python benchmarks/face_embedding.py [RUN ...] [--steps N ...] [--data-dir data]

RUN are run folders of faces; --steps trains further generators, for so many steps each.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from measuring import ROOT

sys.path.insert(0, str(ROOT))

import helper
from facegen import faces, metrics

HALVES = 6  # random splits of the real faces
REPEATED = 50  # faces that fill a whole set in `repeated`


# Candidates: uint8 [n, 28, 28, 3] -> features [n, d] ------------------------------------------------


def pixels(images):
    """All pixels; too many dimensions for a Fréchet distance of 500 samples, but the plain start."""
    return unit(images).reshape(len(images), -1)


def colours(images):
    """Mean colours of 4x4 pixels, on a 7x7 grid."""
    return pooled(unit(images), 7).reshape(len(images), -1)


def projected_pixels(images):
    """256 random projections of the pixels."""
    x = pixels(images)
    return x @ np.random.default_rng(0).normal(0, x.shape[1] ** -0.5, [x.shape[1], 256])


def histograms(images):
    """Gradient histograms of 4x4 pixels in 4 unsigned directions, block-normalised, and colours."""
    x = unit(images)
    right, down = gradients(x.mean(axis=-1) / 2)
    angles = np.pi * np.arange(4) / 4
    rises = np.abs(right[..., None] * np.cos(angles) + down[..., None] * np.sin(angles))
    cells = pooled(rises, 7)
    energy = np.sqrt((cells**2).sum(axis=-1, keepdims=True))
    padded = np.pad(energy, ((0, 0), (1, 1), (1, 1), (0, 0)), 'edge')
    block = sum(padded[:, i : i + 7, j : j + 7] for i in range(3) for j in range(3)) / 9
    return joined(cells / (block + 0.02), pooled(x, 4))


def random_network(seed):
    """A convolutional ReLU net of random weights (Naeem et al. 2020), pooled to 2x2 cells."""

    def features(images):
        rng = np.random.default_rng(seed)
        x = unit(images)
        for layer, filters in enumerate((16, 32, 64)):
            fan_in = 9 * x.shape[-1]
            kernel = rng.normal(0, (2 / fan_in) ** 0.5, [3, 3, x.shape[-1], filters])
            x = np.maximum(convolved(x, kernel.astype(np.float32)), 0)
            if layer == 0:
                x = pooled(x, 14)
        return 2 * joined(pooled(x, 2))

    return features


def wavelets(*, root):
    """Moduli of 2x6 oriented band-pass filters (a first-order scattering), pooled, and colours."""

    def features(images):
        x = unit(images)
        margin = 4
        y = np.pad(x.mean(axis=-1) / 2, ((0, 0), (margin, margin), (margin, margin)), 'symmetric')
        down, right = np.meshgrid(*[np.fft.fftfreq(side) for side in y.shape[1:]], indexing='ij')
        radius, angle = np.maximum(np.hypot(right, down), 1e-6), np.arctan2(down, right)
        spectrum = np.fft.fft2(y)
        maps = []
        for frequency in (0.25, 0.125):  # cycles per pixel
            band = 2 * np.exp(-(np.log(radius / frequency) ** 2) / (2 * 0.55**2))
            for direction in np.pi * np.arange(6) / 6:
                lobe = np.maximum(np.cos(angle - direction), 0) ** 5
                wave = np.fft.ifft2(spectrum * band * lobe)
                maps.append(np.abs(wave[:, margin:-margin, margin:-margin]))
        cells = pooled(np.stack(maps, axis=-1), 4)
        return joined(4 * np.sqrt(cells) if root else 6 * cells, 2 * pooled(x, 4))

    return features


def laplacian(images):
    """Both signs of two levels of a Laplacian pyramid, pooled, and colours."""
    x = unit(images)
    parts = [2 * pooled(x, 4)]
    for cells in (4, 2):
        smaller = pooled(x, x.shape[1] // 2)
        detail = x - smaller.repeat(2, axis=1).repeat(2, axis=2)
        parts += [10 * pooled(np.maximum(sign * detail, 0), cells) for sign in (1, -1)]
        x = smaller
    return joined(*parts)


def unnormalised(images):
    """The chosen edges and colours, without division by the contrast."""
    y = (unit(images).mean(axis=-1, keepdims=True) + 1) / 2
    parts = [faces.cell_means(unit(images))]
    for weight in (20, 12, 12):
        parts.append(weight * faces.cell_means(faces.rises(y)))
        y = faces.halved(y)
    return joined(*parts)


CANDIDATES = {
    'chosen': faces.face_features,
    'unnormalised': unnormalised,
    'pixels': pixels,
    'colours': colours,
    'projected_pixels': projected_pixels,
    'histograms': histograms,
    'random_network_0': random_network(0),
    'random_network_1': random_network(1),
    'random_network_2': random_network(2),
    'wavelets': wavelets(root=False),
    'wavelets_root': wavelets(root=True),
    'laplacian': laplacian,
}


def unit(images):
    """Return float32 in [-1, 1]."""
    return images.astype(np.float32) / 127.5 - 1


def pooled(maps, cells):
    """Return means [n, cells, cells, c] of maps [n, h, w, c]."""
    n, height, width, channels = maps.shape
    blocks = maps.reshape(n, cells, height // cells, cells, width // cells, channels)
    return blocks.mean(axis=(2, 4))


def joined(*parts):
    """Return parts [n, ...] side by side, [n, d]."""
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)


def gradients(y):
    """Return central differences to the right and down, each [n, h, w], of [n, h, w]."""
    y = np.pad(y, ((0, 0), (1, 1), (1, 1)), 'edge')
    return y[:, 1:-1, 2:] - y[:, 1:-1, :-2], y[:, 2:, 1:-1] - y[:, :-2, 1:-1]


def convolved(maps, kernel):
    """Return maps [n, h, w, c] convolved with a kernel [3, 3, c, k]."""
    _, height, width, _ = maps.shape
    padded = np.pad(maps, ((0, 0), (1, 1), (1, 1), (0, 0)), 'edge')
    return sum(
        padded[:, i : i + height, j : j + width] @ kernel[i, j] for i in range(3) for j in range(3)
    )


# Sets -----------------------------------------------------------------------------------------------


def changed(images, change):
    """Return every image as `change` makes it, a function of Pillow images."""
    return np.stack([np.asarray(change(Image.fromarray(image))) for image in images])


def damaged(real):
    """Return {name: images} made of all real faces, in their order, or of none."""
    rng = np.random.default_rng(0)
    small = [side * 5 // 7 for side in real.shape[2:0:-1]]
    return {
        'faces': real,
        'blurred_0.7': changed(real, lambda image: image.filter(ImageFilter.GaussianBlur(0.7))),
        'blurred_1.0': changed(real, lambda image: image.filter(ImageFilter.GaussianBlur(1))),
        'rescaled': changed(
            real,
            lambda image: image.resize(small, Image.BILINEAR).resize(image.size, Image.BICUBIC),
        ),
        'quarters_mixed': with_quarters_of_others(real, rng),
        'noise': rng.integers(0, 256, real.shape, np.uint8),
    }


def with_quarters_of_others(images, rng):
    """Return images whose upper left and lower right quarters are those of two other faces."""
    mixed = images.copy()
    middle = images.shape[1] // 2
    for part in slice(middle), slice(middle, None):
        mixed[:, part, part] = images[rng.permutation(len(images)), part, part]
    return mixed


def drawn(runs, steps, data_dir, count):
    """Return {name: images} that generators of run folders draw, and of new, short training runs."""
    from facegen.run import RunFolder
    from facegen.sampling import generate

    with tempfile.TemporaryDirectory() as folder:
        runs = {run: Path(run) for run in runs}
        for number in steps:
            runs[f'{number}_steps'] = Path(folder, f'{number}_steps')
            command = ['train', '--dataset', 'celeba', '--data', 'sample', '--data-dir', data_dir]
            command += ['--max-steps', str(number), '--run-dir', str(runs[f'{number}_steps'])]
            subprocess.run(
                [sys.executable, '-m', 'facegen', *command], cwd=ROOT, stdout=sys.stderr, check=True
            )
        return {name: generate(RunFolder(run), count, seed=1) for name, run in runs.items()}


# Measurement ----------------------------------------------------------------------------------------


def distances(reference, other):
    """Return (Fréchet distance, kernel distance) of two sets of features.

    Where there are more features than samples, no covariance can be known: its place is NaN.
    """
    frechet = np.nan
    if reference.shape[1] < len(reference):
        frechet = metrics.frechet_distance(*metrics.moments(reference), *metrics.moments(other))
    return frechet, metrics.kernel_distance(reference, other)[0]


def measured(features, real, fakes):
    """Return {set: [(frechet, kernel) of each half]} for a candidate."""
    of_real = {name: features(images) for name, images in damaged(real).items()}
    of_fakes = {name: features(images) for name, images in fakes.items()}
    results = {}
    for half in range(HALVES):
        order = np.random.default_rng(half).permutation(len(real))
        reference, other = np.array_split(order, 2)
        sets = {name: part[other] for name, part in of_real.items()}
        sets['repeated'] = np.resize(sets['faces'][:REPEATED], sets['faces'].shape)
        for name, part in of_fakes.items():
            sets[name] = np.random.default_rng(half).permutation(part)[: len(other)]
        for name, part in sets.items():
            results.setdefault(name, []).append(distances(of_real['faces'][reference], part))
    return results


def effect(values, baseline):
    """Return the mean of values - baseline over its standard deviation, both over the halves."""
    difference = np.subtract(values, baseline)
    return float(difference.mean() / max(difference.std(ddof=1), 1e-12))


def main():
    """Print one JSON line for each candidate and set."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('runs', metavar='RUN', nargs='*', help='run folder of a face generator')
    parser.add_argument('--steps', type=int, nargs='*', default=[], help='of training runs to make')
    parser.add_argument('--data-dir', default=str(ROOT / 'data'), help='folder of celeba')
    parser.add_argument('--only', nargs='*', choices=CANDIDATES, default=list(CANDIDATES))
    arguments = parser.parse_args()
    with redirect_stdout(sys.stderr):
        files = helper.download_extract('celeba', arguments.data_dir, data='sample')
        real = np.asarray(helper.Dataset('celeba', files).pixels)
        fakes = drawn(
            arguments.runs, arguments.steps, str(Path(arguments.data_dir).resolve()), len(real)
        )
    for candidate in arguments.only:
        features = CANDIDATES[candidate]
        started = time.perf_counter()
        d = features(real).shape[1]
        seconds = time.perf_counter() - started
        results = measured(features, real, fakes)
        baseline = np.transpose(results['faces'])
        for name, values in results.items():
            line = {
                'benchmark': 'face_embedding',
                'candidate': candidate,
                'set': name,
                'd': d,
                'seconds_per_1000': round(1000 * seconds / len(real), 2),
            }
            for kind, distance, of_faces in zip(
                ('frechet', 'kernel'), np.transpose(values), baseline, strict=True
            ):
                if np.isfinite(distance).all():
                    line[kind] = float(f'{statistics.median(distance):.4g}')
                    line[f'{kind}_effect'] = round(effect(distance, of_faces), 1)
            print(json.dumps(line), flush=True)


if __name__ == '__main__':
    main()
