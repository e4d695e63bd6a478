"""How good generated images are: every number that this project gives about a set of images.

Nothing here takes part in training. A number means little alone: `real_scores` says what real
images score, which is the best that a generator can hope for.
"""

import math

import numpy as np

from facegen import metrics
from facegen.data.sources import DATASETS, choose
from facegen.files import rows_of
from facegen.images import are_digits, to_unit_range

MIN_IMAGES = 20  # fewer say nothing; 1,000 are few
MOST_COMPARED = 2000  # images or features of either set, where a metric compares pairs
MOST_REFERENCES = 10_000  # real images whose features are computed
QUICK_REFERENCES = 5000
PAPER_REFERENCES = 50_000  # of the FID that papers report
PAPER_IMAGES = 10_000  # of either set: as many as most papers compare, or more
PAIRED = 500  # images of either set whose distances to each other are averaged

NOT_IN_TABLE = {'seed', 'n_reference', 'precision_recall_n'}

SMALLEST_FACE = 8  # side that has features, pixels

RARE_CLASS = 0.02  # share of a digit; real ones have 0.09 to 0.11
HIGH_KL = 0.2  # nats; two digits missing are 0.22
LOW_DIVERSITY = 0.5
FAR = 0.7  # of the Fréchet distance of untrained images
SETTLED_STEPS, SETTLED_IMAGES = 500, 50_000  # by which a working training draws images
LOW_NEAREST_RATIO = 0.5
HIGH_NEARER_SHARE = 0.2  # 0.01 is expected


def evaluate(images, dataset_name, reference, *, seed=0):
    """Return the scores of generated `images` as a dictionary of plain numbers and lists.

    Args:
        images: uint8 [n, h, w, c], n of 20 or more; for digits [n, side, side, 1], side 28 or more.
        dataset_name: 'mnist', 'celeba' or 'folder'.
        reference: uint8 [m, h, w, c], the real images at hand, which training may have seen.
        seed: Of the random subsets.

    Digits are compared with MNIST's 10,000 test digits, by the features of `facegen.digits`; the
    kernel distance, precision and recall use 2,000 of the digits, the last two by direction only.
    Faces, and images of a folder, are compared with `reference`, by the features of
    `facegen.faces`.

    `diversity` is the mean distance between two images, over that of two real ones;
    `nearest_ratio` and `nearer_than_real` (see `metrics.memorising`) say whether images of
    `reference` are repeated; for all but digits, mirror images count too. All three are None where
    all real images are alike. Fréchet distance, precision and recall depend on n and on the size of
    `reference`, so compare equal sizes only.

    Raises ValueError for images that do not fit each other or are too few.
    """
    images, reference = checked(images, dataset_name, reference)
    some = pick(images, MOST_COMPARED, seed)
    return {
        **described(images, dataset_name, reference, seed),
        **scores_of(images, dataset_name, reference, seed),
        'diversity': diversity(images, distance_within(reference, seed), seed),
        **metrics.memorising(
            some, reference, seed=seed, mirrored=DATASETS[dataset_name].has_mirror_images
        ),
    }


def real_scores(dataset_name, reference, count, *, seed=0):
    """Return what `count` real images of `reference` score, as `evaluate` would.

    Digits are any of `reference` (all where there are fewer than `count`), since test digits judge
    them; the classifier knows them from its training. Of other images, at most half are held out
    and compared with the rest. 'n' says how many there were: more generated images, or generated images
    that are compared with more, score better by all but the kernel distance. Whether real images
    repeat real ones is not measured. The dictionary is empty if there are too few to hold any out.

    Raises ValueError like `evaluate`.
    """
    checked(reference, dataset_name, reference)
    judged_by_others = DATASETS[dataset_name].features == 'digits'  # by test digits
    count = min(count, len(reference) // (1 if judged_by_others else 2))
    if count < MIN_IMAGES:
        return {}
    order = np.random.default_rng([seed, 1]).permutation(len(reference))
    held_out = reference[np.sort(order[:count])]
    rest = reference
    if not judged_by_others:
        rest = reference[np.sort(order[count : count + MOST_REFERENCES])]
    return {
        **described(held_out, dataset_name, rest, seed),
        **scores_of(held_out, dataset_name, rest, seed),
        'diversity': diversity(held_out, distance_within(rest, seed), seed),
    }


def inception_scores(images, dataset_name, reference, features, *, seed=0):
    """Return how generated `images` compare with `reference` by the features of Inception.

    Args:
        images: uint8 [n, h, w, c], n of 20 or more, digits of any size too.
        dataset_name: 'mnist', 'celeba' or 'folder'.
        reference: uint8 [m, h, w, c]; of more than 50,000, as many drawn by `seed`.
        features: What `facegen.inception.opened` yields.
        seed: Of the random subsets.

    The Fréchet distance is the FID of Heusel et al. 2017, arXiv:1706.08500, the kernel distance the
    KID of Bińkowski et al. 2018, arXiv:1801.01401, of 10,000 images of either set at most. 'real' says
    what real images score, at most half of `reference` compared with the rest; it is empty where those
    are too few. 'warnings' says so where images are fewer than papers take.

    Raises ValueError like `evaluate`.
    """
    images, reference = checked(images, 'folder', reference)
    chosen = numbers_of(len(reference), PAPER_REFERENCES, seed)
    # Not the images themselves, which at 128 pixels have 2.5 GB
    fake, real = features(images), features(reference, chosen)
    scores = {
        'features': 'inception',
        **described(images, dataset_name, real, seed),
        **inception_distances(real, fake, seed),
        'warnings': few_images(len(fake), len(real)),
        'real': {},
    }
    count = min(len(fake), len(real) // 2)
    if count >= MIN_IMAGES:
        order = np.random.default_rng([seed, 1]).permutation(len(real))
        held_out, rest = real[order[:count]], real[order[count:]]
        sizes = {'n': len(held_out), 'n_reference': len(rest)}
        scores['real'] = {**sizes, **inception_distances(rest, held_out, seed)}
    return scores


def inception_distances(real, fake, seed):
    """Return the Fréchet and the kernel distance of features [m, 2048] and [n, 2048] by name."""
    some = (pick(features, MOST_REFERENCES, seed) for features in (real, fake))
    return {
        'frechet_distance': metrics.frechet_distance(
            *metrics.moments(fake), *metrics.moments(real)
        ),
        **kernel_scores(*some),
    }


def few_images(count, reference_count):
    """Return the warning, if any, that sets are too small for an FID that papers would report."""
    if min(count, reference_count) >= PAPER_IMAGES:
        return []
    return [
        f'{count:,} generated images were compared with {reference_count:,} real ones; papers take '
        f'{PAPER_IMAGES:,} or more of each: FID grows as images get fewer, so compare it with that of '
        'as many images only.'
    ]


class QuickEvaluation:
    """A cheap evaluation of a few hundred images, again and again during a training run.

    What it needs of the real images is computed once. It compares with the images that are
    trained on, never with test digits, so it may choose the weights that `evaluate` then judges.
    """

    def __init__(self, dataset_name, pixels):
        """Look at up to 5,000 of the real `pixels`, uint8 [m, h, w, c], m of 2 or more.

        Digits below 28x28 are compared as other images are, and images below 8x8 by pixel.
        """
        digits = DATASETS[dataset_name].features == 'digits' and are_digits(pixels.shape)
        self.dataset_name = 'mnist' if digits else 'folder'
        real, _ = checked(pixels, self.dataset_name, pixels, at_least=2)
        some = pick(real, QUICK_REFERENCES, 0)
        features, _ = features_of(some, DATASETS[self.dataset_name].features)
        self.moments = metrics.moments(features)
        self.real_distance = distance_within(some, 0)
        self.real = some[:2].copy()  # for their shape

    def __call__(self, images):
        """Return the scores of uint8 `images` [n, h, w, c], 500 to 1,000 for steady numbers.

        frechet_distance, diversity and n; for digits also what `metrics.class_report` says.
        Compare equal n only.
        """
        images, _ = checked(images, self.dataset_name, self.real, at_least=2)
        features, report = features_of(images, DATASETS[self.dataset_name].features)
        return {
            'n': len(images),
            'frechet_distance': metrics.frechet_distance(*metrics.moments(features), *self.moments),
            'diversity': diversity(images, self.real_distance, 0),
            **report,
        }


def score_table(generated, real):
    """Return the scores of generated and of real images as lines of text, side by side."""
    lines = [f'{"":30}{"generated":>10}{"real":>10}']
    for name, value in generated.items():
        if name not in NOT_IN_TABLE and not isinstance(value, (str, list)):
            lines.append(row(name.replace('_', ' '), [value, real.get(name)]))
    return '\n'.join(lines)


def row(label, numbers):
    """Return one line of a table, with a dash for None."""
    cells = ['-' if number is None else f'{number:.4g}' for number in numbers]
    return f'{label:30}' + ''.join(f'{cell:>10}' for cell in cells)


def has_collapsed(scores, untrained=None):
    """Tell whether images are nearly all alike, or hardly nearer to real ones than `untrained` are.

    Both are what a `QuickEvaluation` or `evaluate` says, `untrained` of what was generated before the
    first step, None if that is unknown. A distance that is NaN is far.
    """
    before = untrained['frechet_distance'] if untrained else 0
    is_known = math.isfinite(before) and before > 0
    is_far = is_known and not scores['frechet_distance'] <= FAR * before
    return bool(are_alike(scores) or is_far)


def are_alike(scores):
    """Tell whether images differ much less from each other than real ones do."""
    diversity = scores.get('diversity')
    return diversity is not None and diversity < LOW_DIVERSITY


def is_settled(step, recipe):
    """Tell whether a training run that works draws recognisable images at a step: 500, or 50,000 images.

    Not before the learning rate has been at its full height for as long as it took to rise.
    """
    shown = step * recipe.batch_size
    is_late = step >= SETTLED_STEPS or shown >= SETTLED_IMAGES
    return is_late and shown >= 2 * recipe.rate_warmup


def collapsed_since(history, recipe):
    """Return the step of the evaluation from which on a training run has collapsed; None if it has not.

    `history` is that of `RunFolder.scores`. Evaluations before the training `is_settled` do not count.
    """
    untrained = next((line for line in history if line['step'] == 0), None)
    since = None
    for line in history:
        if not is_settled(line['step'], recipe) or not has_collapsed(line, untrained):
            since = None
        elif since is None:
            since = line['step']
    return since


def warnings_of(scores):
    """Return a sentence for every sign in `scores`, of either evaluation, of a failed training."""
    return list(signs_of(scores).values())


def signs_of(scores):
    """Return {name: sentence} of the signs of a failed training in `scores`, of either evaluation.

    Where the images are alike, how often each digit is drawn follows from that, and is left out.
    """
    if are_alike(scores):
        found = {
            'alike': 'The images are too much alike: they differ '
            f'{scores["diversity"]:.2f} times as much as real ones do.'
        }
    else:
        found = class_signs(scores)
    known = {name: value for name, value in scores.items() if value is not None}
    if (
        known.get('nearest_ratio', 1) < LOW_NEAREST_RATIO
        or known.get('nearer_than_real', 0) > HIGH_NEARER_SHARE
    ):
        found['repeated'] = (
            'The images may repeat training images: they lie '
            f'{scores["nearest_ratio"]:.2f} times as far from the nearest one as real images do, '
            f'and {scores["nearer_than_real"]:.0%} of them nearer than nearly all real ones.'
        )
    return found


def class_signs(scores):
    """Return {name: sentence} of what is wrong with how often each digit is drawn."""
    found = {}
    shares = scores.get('class_histogram', [])
    rare = [f'{digit} ({share:.1%})' for digit, share in enumerate(shares) if share < RARE_CLASS]
    if rare:
        found['rare'] = (
            f'Hardly drawn at all: the digit {", ".join(rare)}; about a tenth each is expected.'
        )
    if scores.get('class_kl', 0) > HIGH_KL:
        found['uneven'] = (
            f'The digits are drawn unevenly: {scores["class_kl"]:.2f} nats from an equal share of '
            f'each; {HIGH_KL} is the limit, real digits have less than 0.01.'
        )
    return found


def digit_scores(images, reference, seed):
    """Return how digits compare with MNIST's test digits; `reference` is not used."""
    from facegen.digits import test_set_statistics

    features, report = features_of(images, 'digits')
    test = test_set_statistics()
    return {
        'frechet_distance': metrics.frechet_distance(
            *metrics.moments(features), test.mean, test.covariance
        ),
        **kernel_scores(test.features, features),
        # Blur and noise shorten a digit's features, and between long ones there is room for
        # anything: unscaled, noisy digits would have a higher precision than real ones.
        **neighbours(unit(test.features), unit(features), seed),
        **report,
    }


def face_scores(images, reference, seed):
    """Return how images compare with those of `reference`, by features and by texture."""
    reference = pick(reference, MOST_REFERENCES, seed)
    real, _ = features_of(reference, 'faces')
    fake, _ = features_of(images, 'faces')
    return {
        'frechet_distance': metrics.frechet_distance(
            *metrics.moments(fake), *metrics.moments(real)
        ),
        **kernel_scores(real, fake),
        **neighbours(real, fake, seed),
    }


def scores_of(images, dataset_name, reference, seed):
    """Return how images compare with real ones, by the features of their data set."""
    scores = {'digits': digit_scores, 'faces': face_scores}[DATASETS[dataset_name].features]
    return scores(images, reference, seed)


def kernel_scores(real, fake):
    """Return the kernel distance of features [m, d] and [n, d], and its standard error, by name."""
    value, error = metrics.kernel_distance(real, fake)
    return {'kernel_distance': value, 'kernel_distance_standard_error': error}


def neighbours(real, fake, seed):
    """Return precision and recall of features [m, d] and [n, d], equally many of each."""
    count = min(len(real), len(fake), MOST_COMPARED)
    precision, recall = metrics.precision_recall(pick(real, count, seed), pick(fake, count, seed))
    return {'precision': precision, 'recall': recall, 'precision_recall_n': count}


def unit(features):
    """Return features [n, d] scaled to length 1."""
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def features_of(images, kind):
    """Return (features [n, d], what the classifier says about digits, {} for other images).

    Features of images below 8x8 are their pixels, in [0, 1].
    """
    if kind == 'digits':
        from facegen.digits import digit_features

        features, probabilities = digit_features(images)
        return features, metrics.class_report(probabilities)
    if min(images.shape[1:3]) < SMALLEST_FACE:
        return to_unit_range(images.reshape(len(images), -1)), {}
    from facegen.faces import face_features

    return face_features(images), {}


def diversity(images, real_distance, seed):
    """Return `distance_within` images over that within real ones, None where that is 0."""
    return distance_within(images, seed) / real_distance if real_distance else None


def distance_within(images, seed):
    """Return the mean distance between two of `images`, of which 500 at most are drawn by `seed`."""
    return metrics.mean_pairwise_distance(pick(images, PAIRED, seed))


def pick(images, count, seed):
    """Return `count` images, drawn by `seed`, in their own order; all if there are fewer."""
    return rows_of(images, numbers_of(len(images), count, seed)) if len(images) > count else images


def numbers_of(length, count, seed):
    """Return `count` numbers below `length`, drawn by `seed`, in order; all if there are fewer."""
    if length <= count:
        return np.arange(length)
    return np.sort(np.random.default_rng(seed).choice(length, count, replace=False))


def described(images, dataset_name, reference, seed):
    """Return what a score depends on."""
    return {
        'dataset': dataset_name,
        'n': len(images),
        'n_reference': len(reference),
        'image_shape': list(images.shape[1:]),
        'seed': seed,
    }


def checked(images, dataset_name, reference, *, at_least=MIN_IMAGES):
    """Return both sets as arrays; raise ValueError if they cannot be compared, saying why."""
    choose(DATASETS, dataset_name, 'data set')
    images, reference = np.asanyarray(images), np.asanyarray(reference)  # also memory maps
    for name, array in ('generated', images), ('real', reference):
        if array.dtype != np.uint8 or array.ndim != 4 or array.shape[-1] not in (1, 3):
            raise ValueError(
                f'the {name} images are {array.dtype} {list(array.shape)}; expected uint8 '
                '[n, height, width, 1 or 3], 0 to 255'
            )
        if len(array) < at_least:
            raise ValueError(
                f'the number of {name} images is {len(array)}; expected at least {at_least}'
            )
    check_shapes(images.shape, dataset_name, reference.shape)
    return images, reference


def check_shapes(shape, dataset_name, reference_shape):
    """Raise ValueError if images [n, h, w, c] cannot be compared with real ones of that shape."""
    size, real_size = list(shape[1:]), list(reference_shape[1:])
    if DATASETS[dataset_name].features == 'digits' and not are_digits(shape):
        raise ValueError(
            f'the generated images are {size}, but the classifier that measures digits knows '
            '[28, 28, 1], and larger squares that it reduces to that'
        )
    if size != real_size:
        raise ValueError(
            f'the generated images are {size}, the real ones {real_size}; expected one size'
        )
