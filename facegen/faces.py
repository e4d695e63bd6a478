"""What faces look like in a few hundred numbers, without a trained network: numpy only.

Distances between images, and between sets of them, are taken in this space. It was chosen by
`benchmarks/face_embedding.py`, which ranks damaged and generated faces in it and in others.
"""

import math

import numpy as np

from facegen.images import to_unit_range

GRID = 4  # cells along each side of an image
DIRECTIONS = ((0, 1), (1, 0), (0, -1), (-1, 0))  # in which brightness rises: (down, right)
OCTAVE_WEIGHTS = (1.5, 1.0, 1.0)  # of edges at full, half and quarter size
COLOUR_WEIGHT = 0.7  # of mean colours beside edges: light and tint should count, but less
EDGE_SCALE = 1.4  # brings the mean square of a feature near 1, where (x·y / d + 1)^3 bends
CONTRAST_FLOOR = 0.05  # mean rise over two pixels, of 1, below which edges count for less
CHUNK_PIXELS = 200_000  # of the images that are looked at together: some 20 MB of memory


def face_features(images):
    """Return features float32 [n, d] of uint8 images [n, h, w, c]; d is 240 for c = 3, 208 for 1.

    Each image is cut into 4x4 overlapping cells. A cell gives its mean colour, in [-0.7, 0.7], and,
    at three sizes s (full, half, quarter) and in four directions u, how brightness y rises:

        e[s, u] = w[s] mean(max(0, u · grad y_s)),    f[s, u] = 1.4 e[s, u] / (mean e + floor) >= 0

    with the mean of all e of the cell and of its neighbours. So the features say which edges a
    face has where, but hardly how it is lit; the share of fine edges, which blur lowers and noise
    raises, stays. They are gradient histograms (Dalal and Triggs 2005), at several sizes, with the
    divisive normalisation of visual cortex (Heeger 1992). d does not depend on the size.

    Raises ValueError unless sides are multiples of 4, 8 or more, and c is 1 or 3.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(
            'expected images as uint8 [n, h, w, c], 0 to 255, with c of 1 or 3; found '
            f'{images.dtype} {list(images.shape)}'
        )
    if any(side < 8 or side % 4 for side in images.shape[1:3]):
        raise ValueError(
            'expected images with sides that are multiples of 4 pixels, from 8 on; found '
            f'{images.shape[1]} x {images.shape[2]}'
        )
    if not len(images):
        raise ValueError('there are no images; expected at least 1')
    chunk = max(1, CHUNK_PIXELS // math.prod(images.shape[1:3]))
    return np.concatenate(
        [features_of_chunk(images[start : start + chunk]) for start in range(0, len(images), chunk)]
    )


def features_of_chunk(images):
    """Return the features of a few images; see `face_features`."""
    images = to_unit_range(images)
    brightness = images.mean(axis=-1, keepdims=True)
    edges = []
    for weight in OCTAVE_WEIGHTS:
        edges.append(weight * cell_means(rises(brightness)))
        brightness = halved(brightness)
    edges = np.concatenate(edges, axis=-1)  # [n, 4, 4, octaves * directions]
    contrast = neighbourhood_means(edges.mean(axis=-1, keepdims=True))
    edges = EDGE_SCALE * edges / (contrast + CONTRAST_FLOOR)
    colours = COLOUR_WEIGHT * (2 * cell_means(images) - 1)
    return np.concatenate([colours, edges], axis=-1).reshape(len(images), -1)


def rises(brightness):
    """Return max(0, central difference) in each direction, [n, h, w, 4], of [n, h, w, 1]."""
    y = np.pad(brightness[..., 0], ((0, 0), (1, 1), (1, 1)), 'edge')
    down, right = y[:, 2:, 1:-1] - y[:, :-2, 1:-1], y[:, 1:-1, 2:] - y[:, 1:-1, :-2]
    return np.maximum(np.stack([a * down + b * right for a, b in DIRECTIONS], axis=-1), 0)


def halved(images):
    """Return means of 2x2 pixels [n, h / 2, w / 2, c]; an odd last row or column is dropped."""
    n, height, width, channels = images.shape
    even = images[:, : height // 2 * 2, : width // 2 * 2]
    return even.reshape(n, height // 2, 2, width // 2, 2, channels).mean(axis=(2, 4))


def cell_means(maps):
    """Return weighted means [n, 4, 4, c] of maps [n, h, w, c] in cells that overlap."""
    rows, columns = cell_weights(maps.shape[1]), cell_weights(maps.shape[2])
    return np.einsum('ih,nhwc,jw->nijc', rows, maps, columns, optimize=True)


def cell_weights(size):
    """Return [4, size]: triangles from the middle of a cell to those of its two neighbours."""
    position = (np.arange(size, dtype=np.float32) + 0.5) / size * GRID  # in cells
    middle = np.arange(GRID, dtype=np.float32)[:, None] + 0.5
    weights = np.maximum(1 - np.abs(position - middle), 0)
    return weights / weights.sum(axis=1, keepdims=True)


def neighbourhood_means(cells):
    """Return the mean of each cell [n, 4, 4, 1] and the eight around it, with edges repeated."""
    padded = np.pad(cells, ((0, 0), (1, 1), (1, 1), (0, 0)), 'edge')
    return sum(padded[:, i : i + GRID, j : j + GRID] for i in range(3) for j in range(3)) / 9
