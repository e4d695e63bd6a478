"""How much generated images resemble real ones, in numbers; numpy only, on features or pixels.

Features are rows [n, d] of any network, images are [n, h, w, c]. Nothing here is random, except
where a seed is taken; and every function raises ValueError for shapes that do not fit, for too few
rows, and for NaN.
"""

import math

import numpy as np

from facegen.images import mirrored as mirror_images

CHUNK = 1 << 22  # numbers in one block of distances or kernel values: 32 MB
ROUNDING = 1e-12  # of a squared distance, relative to the squared lengths it is the difference of


# Distances between distributions ------------------------------------------------------------------


def moments(features):
    """Return (mean float64 [d], unbiased covariance float64 [d, d]) of features [n, d], n >= 2."""
    features = checked(features, 'features', at_least=2)
    mean = features.mean(axis=0)
    centred = features - mean
    return mean, centred.T @ centred / (len(features) - 1)


def frechet_distance(mean_a, cov_a, mean_b, cov_b):
    """Return the squared Fréchet distance between two Gaussians, 0 or more; means [d], covs [d, d].

    |mean_a - mean_b|^2 + tr(A) + tr(B) - 2 tr((A^1/2 B A^1/2)^1/2)

    (Dowson and Landau 1982; on features of a network, the FID of Heusel et al. 2017,
    arXiv:1706.08500.) The last trace is that of (AB)^1/2, but of a symmetric matrix, so covariances
    may lack rank. Moments of few samples overstate it: compare equal sample sizes only.
    """
    mean_a, mean_b = np.atleast_1d(mean_a), np.atleast_1d(mean_b)
    cov_a, cov_b = np.atleast_2d(cov_a), np.atleast_2d(cov_b)
    shapes = [list(part.shape) for part in (mean_a, cov_a, mean_b, cov_b)]
    (d,) = mean_a.shape if mean_a.ndim == 1 else (None,)
    if shapes != [[d], [d, d]] * 2:
        raise ValueError(f'expected two means [d] and covariances [d, d]; found {shapes}')
    if not all(np.isfinite(part).all() for part in (mean_a, cov_a, mean_b, cov_b)):
        raise ValueError('a mean or covariance holds NaN or infinite values; check the features')
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(0)).sum()
    distance = np.sum((mean_a - mean_b) ** 2) + np.trace(cov_a) + np.trace(cov_b) - 2 * cross
    return max(0.0, float(distance))


def kernel_distance(real, fake):
    """Return (squared maximum mean discrepancy, its standard error) of features [n, d] and [m, d].

    mean k(x, x') + mean k(y, y') - 2 mean k(x, y), over all pairs of different rows,
    with k(x, y) = (x.y / d + 1)^3

    This is the KID of Bińkowski et al. 2018, arXiv:1801.01401. It is unbiased at any sample size,
    so it can be below 0 where the true value is near 0. The paper averages it over random subsets,
    to save time; here all pairs are used. The standard error is the jackknife's of two samples:
    every row is left out once. (The spread over overlapping subsets would promise too much.) It is
    too large, if anything, where both distributions are the same. Needs 3 rows of each.
    """
    real, fake = checked_pair(real, fake, at_least=3)
    within_real, within_fake = kernel_sums(real), kernel_sums(fake)
    across_real, across_fake = kernel_sums(real, fake), kernel_sums(fake, real)
    n, m = len(real), len(fake)

    def distance(real_sum, n, fake_sum, m, across_sum):
        return real_sum / (n * (n - 1)) + fake_sum / (m * (m - 1)) - 2 * across_sum / (n * m)

    real_sum, fake_sum, across_sum = within_real.sum(), within_fake.sum(), across_real.sum()
    value = distance(real_sum, n, fake_sum, m, across_sum)
    without_real = distance(
        real_sum - 2 * within_real, n - 1, fake_sum, m, across_sum - across_real
    )
    without_fake = distance(
        real_sum, n, fake_sum - 2 * within_fake, m - 1, across_sum - across_fake
    )
    variance = (n - 1) * without_real.var() + (m - 1) * without_fake.var()
    return float(value), float(np.sqrt(variance))


def kernel_sums(a, b=None):
    """Return [n]: the sum of each row's kernel with all rows of b, or with all others of a."""
    others = a if b is None else b
    d = a.shape[1]

    def kernel(products):
        base = products / d + 1
        return base * base * base  # ** 3 takes several times as long

    blocks = chunks(len(a), len(others))
    sums = np.concatenate([kernel(a[rows] @ others.T).sum(axis=1) for rows in blocks])
    return sums - kernel((a * a).sum(axis=1)) if b is None else sums


def precision_recall(real, fake, *, k=3):
    """Return (precision, recall) of features [n, d] and [m, d], both in [0, 1].

    A set covers what lies no farther from one of its rows than that row's k-th nearest other row.
    Precision is the share of `fake` that `real` covers, recall the share of `real` that `fake`
    covers (Kynkäänniemi et al. 2019, arXiv:1904.06991). Precision grows with the number of real
    rows, recall with that of fake ones: use equally many. Needs k + 1 rows of each.
    """
    real, fake = checked_pair(real, fake, at_least=k + 1)
    centre = real.mean(axis=0)  # a common offset would only add rounding
    real, fake = real - centre, fake - centre
    return coverage(real, fake, k), coverage(fake, real, k)


def coverage(centres, rows, k):
    """Return the share of `rows` in a ball around one of `centres` up to its k-th nearest other."""
    radii = np.concatenate(
        [
            np.partition(squared_distances(centres[part], centres), k, axis=1)[:, k]
            for part in chunks(len(centres), len(centres))
        ]
    )
    inside = [
        (squared_distances(rows[part], centres) <= radii).any(axis=1)
        for part in chunks(len(rows), len(centres))
    ]
    return float(np.concatenate(inside).mean())


# Digits -------------------------------------------------------------------------------------------


def class_report(probabilities):
    """Return what a classifier's probabilities [n, classes] say about n images, as a dictionary.

    mean_confidence: mean of each image's highest probability.
    confident_share: share of images whose highest probability is above 0.9.
    class_histogram: share of images by their most probable class.
    class_kl: KL(class_histogram || uniform) = sum_c p_c log(classes p_c), nats, 0 to log classes.
    """
    probabilities = checked(probabilities, 'probabilities', at_least=1)
    low, high = probabilities.min(), probabilities.max()
    if low < 0 or high > 1.001 or np.abs(probabilities.sum(axis=1) - 1).max() > 0.01:
        raise ValueError(
            f'probabilities lie in [{low:.3g}, {high:.3g}]; expected [0, 1], and rows that sum to '
            '1: logits need a softmax'
        )
    count, classes = probabilities.shape
    highest = probabilities.max(axis=1)
    shares = np.bincount(probabilities.argmax(axis=1), minlength=classes) / count
    present = shares[shares > 0]
    return {
        'mean_confidence': float(highest.mean()),
        'confident_share': float((highest > 0.9).mean()),
        'class_histogram': shares.tolist(),
        'class_kl': max(0.0, float(np.sum(present * np.log(classes * present)))),
    }


# Images -----------------------------------------------------------------------------------------


def nearest(samples, images, *, skip=None):
    """Return (Euclidean distances float64 [n], indices [n]) of each sample's nearest image.

    Both are uint8 images or features, [n, ...] and [m, ...] of one shape. `skip` [n] names, for
    every sample, one image that does not count, such as itself.
    """
    samples, images = checked_rows(samples, 'samples'), checked_rows(images, 'images')
    if samples.shape[1] != images.shape[1]:
        raise ValueError(
            f'a sample has {samples.shape[1]} numbers, an image {images.shape[1]}; expected '
            'images of one size'
        )
    if not len(samples) or len(images) < (1 if skip is None else 2):
        raise ValueError(
            f'there are {len(samples)} samples and {len(images)} images; expected at least 1 '
            'of each, and 2 images where one is skipped'
        )
    count = len(samples)
    centre = samples.mean(axis=0, dtype=np.float64).astype(np.float32)  # keeps rounding small
    queries = samples.astype(np.float32)
    queries -= centre  # in place: of 2,000 images of 128x128 pixels these are 400 MB
    best, indices = np.full(count, np.inf, np.float32), np.zeros(count, int)
    for part in chunks(len(images), max(count, images.shape[1])):
        candidates = images[part].astype(np.float32) - centre
        # Without the samples' own lengths, which do not change which image is nearest.
        distances = (candidates * candidates).sum(axis=1) - 2 * (queries @ candidates.T)
        if skip is not None:
            here = np.flatnonzero((skip >= part.start) & (skip < part.start + len(candidates)))
            distances[here, np.asarray(skip)[here] - part.start] = np.inf
        closest = distances.argmin(axis=1)
        found = distances[np.arange(count), closest]
        closer = found < best
        best[closer], indices[closer] = found[closer], part.start + closest[closer]
    exact = np.empty(count)
    for part in chunks(count, samples.shape[1]):
        difference = samples[part].astype(np.float64) - images[indices[part]]
        exact[part] = np.sqrt((difference**2).sum(axis=1))
    return exact, indices


def nearest_or_mirrored(samples, images, *, skip=None):
    """Return what `nearest` does, of images [n, h, w, c] and their mirror images.

    An index of m or more, with m images, is the mirror image of image index - m.
    """
    distances, indices = nearest(samples, images, skip=skip)
    # A sample lies as far from a mirror image as its own mirror image from the image
    mirrored, mirrored_indices = nearest(mirror_images(samples), images, skip=skip)
    nearer = mirrored < distances
    indices = np.where(nearer, len(images) + mirrored_indices, indices)
    return np.where(nearer, mirrored, distances), indices


def memorising(samples, training, held_out=None, *, seed=0, mirrored=False):
    """Return how much nearer to training images the samples lie than real images do.

    nearest_ratio: median distance of a sample to its nearest training image, over that of a
    held-out image. About 1: the generator draws new images; well below 1: it repeats what it
    saw. Images that are smoother than real ones lie a little nearer, too.
    nearer_than_real: share of samples nearer to a training image than 99 % of held-out images
    are; about 0.01 for a generator that draws new ones.

    Distances are Euclidean, of pixels or features [n, ...]; with `mirrored`, of images, those to the
    mirror images count too, of which a training run may have seen as many. Without `held_out` images, training
    images take their place, as many as samples, drawn by `seed`: each one's nearest *other*
    training image. That equals held-out images unless the set holds copies, which make real
    images look nearer than they are; both numbers are None if most of the set are copies. Needs 2
    training images.
    """
    search = nearest_or_mirrored if mirrored else nearest
    if held_out is None:
        count = min(len(samples), len(training))
        chosen = np.sort(np.random.default_rng(seed).permutation(len(training))[:count])
        real_distances, _ = search(training[chosen], training, skip=chosen)
    else:
        real_distances, _ = search(held_out, training)
    distances, _ = search(samples, training)
    typical = np.median(real_distances)
    if not typical > 0:
        return {'nearest_ratio': None, 'nearer_than_real': None}
    return {
        'nearest_ratio': float(np.median(distances) / typical),
        'nearer_than_real': float((distances < np.percentile(real_distances, 1)).mean()),
    }


def mean_pairwise_distance(rows):
    """Return the mean Euclidean distance between two different rows of [n, ...], n >= 2.

    Needs memory for n squared numbers, and a little more, however long the rows are.
    """
    rows = checked_rows(rows, 'images')
    if len(rows) < 2:
        raise ValueError(f'there are {len(rows)} images; expected at least 2')
    products = np.zeros([len(rows)] * 2)
    for part in chunks(rows.shape[1], len(rows)):
        columns = rows[:, part].astype(np.float64)
        columns -= columns.mean(axis=0)  # else squares would lose digits
        products += columns @ columns.T
    lengths = products.diagonal()
    total = np.sqrt(squares_of_differences(lengths, lengths, products)).sum()
    return float(total / (len(rows) * (len(rows) - 1)))


# Checks and blocks --------------------------------------------------------------------------------


def checked(features, name, *, at_least):
    """Return features [n, d] as float64; raise ValueError unless n >= `at_least` and all finite."""
    features = np.asarray(features, np.float64)
    if features.ndim != 2 or not features.shape[1]:
        raise ValueError(f'{name} are {list(features.shape)}; expected [n, d] with d >= 1')
    if len(features) < at_least:
        raise ValueError(f'there are {len(features)} {name}; expected at least {at_least}')
    if not np.isfinite(features).all():
        raise ValueError(f'{name} hold NaN or infinite values; did the training diverge?')
    return features


def checked_pair(real, fake, *, at_least):
    """Return both sets of features as float64; raise ValueError also where their d differs."""
    real = checked(real, 'real features', at_least=at_least)
    fake = checked(fake, 'fake features', at_least=at_least)
    if real.shape[1] != fake.shape[1]:
        raise ValueError(
            f'real features have {real.shape[1]} numbers each, fake ones {fake.shape[1]}; expected '
            'both from one network'
        )
    return real, fake


def checked_rows(rows, name):
    """Return [n, ...] as [n, numbers], of its own type; raise ValueError for less than two axes."""
    rows = np.asarray(rows)
    if rows.ndim < 2 or not rows.shape[1:] or 0 in rows.shape[1:]:
        raise ValueError(f'{name} are {list(rows.shape)}; expected [n, h, w, c] or [n, d]')
    if rows.dtype.kind == 'f' and not np.isfinite(rows).all():
        raise ValueError(f'{name} hold NaN or infinite values; did the training diverge?')
    return rows.reshape(len(rows), math.prod(rows.shape[1:]))


def chunks(count, width):
    """Return slices that cut `count` rows so that a block of rows by `width` has CHUNK numbers at most."""
    size = max(1, CHUNK // width)
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def squared_distances(a, b):
    """Return squared Euclidean distances [n, m] of rows [n, d] and [m, d], exactly 0 for copies."""
    return squares_of_differences((a * a).sum(axis=1), (b * b).sum(axis=1), a @ b.T)


def squares_of_differences(a, b, products):
    """Return |x|^2 + |y|^2 - 2 xy [n, m] of squared lengths a [n] and b [m] and products xy [n, m]."""
    lengths = a[:, None] + b
    distances = lengths - 2 * products
    distances[distances < ROUNDING * lengths] = 0
    return distances
