"""What pays on faces: one change of a recipe at a time, three seeds, and equally many images shown.

Prints one JSON line per run, and appends it to the log; runs that the log has already, of this
machine and in the same settings, are skipped, so an interrupted benchmark goes on where it was. Images are compared with all
999 faces, also where fewer were trained on. With `--judge-python`, a network that is not ours judges the
images too (judge.py).

    python benchmarks/studies.py --data-dir data --jobs 2 --judge-python PYTHON
    python benchmarks/studies.py --cases hour-faces-64 hour-dcgan-64 --jobs 2 --judge-python PYTHON
    python benchmarks/studies.py --table

The cases `hour-…` are trained only if they are asked for. They see about as many images as one training run sees
in an hour on two EPYC cores, so that other programs do not change the result: on the cores of "What each
size costs" in RESULTS.md, on a day on which these were slow, or, for `hour-999-faces-…` and `hour-more-faces-…`, on older ones, which
have AVX2 only and so train in float32. With `--runs FOLDER`, their runs are kept. Those named `more` train on 16,000
other faces, which the folder of the data has to hold (`more_faces` in trainings.py says where and how);
where it does, the images of every training run on faces are compared with the rest of these, too. `batch-128` is also
the cross-entropy beside `least-squares`, and `augmentation-none-999` has no dropout.
"""

import statistics
import sys
from functools import reduce

from trainings import Case, main, of_case  # isort: skip  # it finds facegen
from facegen.recipes import AUGMENTATIONS, recipe_named  # isort: skip

SEEDS = 3
SHOWN = 64_000  # images that a run of a study sees: a whole number of batches of each size
SHOWN_IN_AN_HOUR = {  # images, by recipe and size
    ('faces', 64): 401_408,  # at 111.5 a second
    ('faces', 128): 255_616,  # 71
    ('dcgan', 64): 147_240,  # 40.9
}
SHOWN_BESIDE_MORE = {28: 368_640, 64: 140_800}  # images, by size, on cores with AVX2 only
COUNTS = 100, 300, 999  # images that augmentations are tried with


def study(recipe, image_size=28, images=None, **changes):
    """Return a case that is shown as many images as the others, whatever its batches."""
    batch_size = changes.get('batch_size', recipe_named(recipe, image_size).batch_size)
    return Case(
        recipe, 'celeba', SEEDS, changes=tuple(changes.items()), precisions=('auto',),
        limits=(('max_steps', SHOWN // batch_size),), image_size=image_size, images=images,
    )  # fmt: skip


def hour(recipe, image_size, shown, dataset='celeba'):
    """Return a case that is shown as many images as in an hour."""
    batch_size = recipe_named(recipe, image_size).batch_size
    limits = (('max_steps', shown // batch_size),)
    show_every = 6400 // batch_size if image_size > 32 else 500
    return study(recipe, image_size)._replace(dataset=dataset, limits=limits, show_every=show_every)


POLICIES = {
    'none': (),
    **{name: (name,) for name in AUGMENTATIONS},
    'all': ('colour', 'translation', 'cutout'),
}
CASES = {
    'plain-64': study('faces', 64),
    'residual-64': study('faces', 64, network='residual'),
    'residual-64-gamma-5': study('faces', 64, network='residual', gamma=5.0),  # its best (LOG.md)
    **{
        f'augmentation-{name}-{count}': study('faces', images=count, augmentations=policy)
        for name, policy in POLICIES.items()
        for count in COUNTS
    },
    **{f'batch-{size}': study('dcgan', batch_size=size) for size in (32, 64, 128, 256)},
    'least-squares': study('dcgan-least-squares'),
    **{f'dropout-{share}': study('faces', dropout=share) for share in (0.25, 0.5)},
}
HOURS = {
    **{
        f'hour-{recipe}-{size}': hour(recipe, size, n)
        for (recipe, size), n in SHOWN_IN_AN_HOUR.items()
    },
    **{f'hour-999-faces-{size}': hour('faces', size, n) for size, n in SHOWN_BESIDE_MORE.items()},
    **{
        f'hour-more-faces-{size}': hour('faces', size, n, 'folder')
        for size, n in SHOWN_BESIDE_MORE.items()
    },
}
COLUMNS = {  # heading: (where the score is, its name, factor, digits after the point)
    'Fréchet distance': (('scores',), 'frechet_distance', 1, 2),
    'kernel distance x 1000': (('scores',), 'kernel_distance', 1000, 1),
    'precision': (('scores',), 'precision', 1, 2),
    'recall': (('scores',), 'recall', 1, 2),
    'to the nearest trained on': (('scores',), 'nearest_ratio', 1, 2),
    'dlib: kernel distance x 10,000': (('judged',), 'kernel_distance', 10_000, 1),
    'faces found': (('judged',), 'found_share', 1, 2),
    'of real ones': (('judged',), 'found_share_of_real', 1, 2),
    'dlib: to the nearest': (('judged',), 'to_the_nearest', 1, 2),
    'held out: Fréchet distance': (('held_out',), 'frechet_distance', 1, 2),
    'of what was trained on': (('held_out',), 'frechet_distance_of_trained_on', 1, 2),
    'held out: dlib': (('held_out', 'judged'), 'kernel_distance', 10_000, 1),
}


def table(lines):
    """Return a Markdown table of what was trained: of each score the median, and all in brackets, by seed."""
    rows = []
    for name, case in (CASES | HOURS).items():
        chosen = sorted(of_case(lines, name, case, 'auto'), key=lambda line: line['seed'])
        if chosen:
            steps = statistics.median(line['step'] for line in chosen)
            cells = [cell(chosen, *column) for column in COLUMNS.values()]
            rows.append([f'`{name}`', str(len(chosen)), f'{steps:,.0f}', *cells])
    if not rows:
        return 'nothing is logged of the cases as they are now'
    heading = ['case', 'runs', 'steps', *COLUMNS]
    used = [column for column, cells in enumerate(zip(*rows, strict=True)) if any(cells)]
    rows = [heading, ['---'] * len(heading), *rows]
    return '\n'.join(f'| {" | ".join(row[column] for column in used)} |' for row in rows)


def cell(lines, where, score, factor, digits):
    """Return the median of a score, and the scores; nothing where no training run has it."""
    found = [reduce(lambda scores, name: scores.get(name, {}), where, line) for line in lines]
    values = [factor * scores[score] for scores in found if score in scores]
    if not values:
        return ''
    every = ', '.join(f'{value:.{digits}f}' for value in values)
    return f'{statistics.median(values):.{digits}f} ({every})'


if __name__ == '__main__':
    sys.exit(main(__file__, __doc__, CASES | HOURS, table, default=list(CASES)))
