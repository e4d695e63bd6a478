"""What pays on faces: one change of a recipe at a time, three seeds, and equally many images shown.

Prints one JSON line per training, and appends it to the log; what the log has of this machine, in the
same settings, is left out, so an interrupted run goes on where it was. Images are compared with all
999 faces, also where fewer were trained on. With `--judge-python`, a network that is not ours judges the
images too (judge.py).

    python benchmarks/studies.py --data-dir data --jobs 2 --judge-python PYTHON
    python benchmarks/studies.py --cases hour-faces-64 hour-dcgan-64 --judge-python PYTHON
    python benchmarks/studies.py --table

The cases `hour-…` are trained only if they are asked for. They see as many images as one training sees
in an hour on both cores of the machine that RESULTS.md names (`sizes.py` says how many a second), so that they come
out the same beside others. With `--runs FOLDER`, their runs are kept. `batch-128` is also the
cross-entropy beside `least-squares`, and `augmentation-none-999` has no dropout.
"""

import statistics
import sys

from trainings import Case, main, of_case  # isort: skip  # it finds facegen
from facegen.recipes import AUGMENTATIONS, recipe_named  # isort: skip

SEEDS = 3
SHOWN = 64_000  # images, that a training of a study sees: a whole number of batches of each size
SHOWN_IN_AN_HOUR = {'faces': 401_408, 'dcgan': 147_240}  # of 64 pixels: 111.5 and 40.9 a second
COUNTS = 100, 300, 999  # images that augmentations are tried with


def study(recipe, image_size=28, images=None, **changes):
    """Return a case that is shown as many images as the others, whatever its batches."""
    batch_size = changes.get('batch_size', recipe_named(recipe, image_size).batch_size)
    return Case(
        recipe, 'celeba', SEEDS, changes=tuple(changes.items()), precisions=('auto',),
        limits=(('max_steps', SHOWN // batch_size),), image_size=image_size, images=images,
    )  # fmt: skip


def hour(recipe):
    """Return a case at 64 pixels that is shown as many images as in an hour."""
    case = study(recipe, 64)
    steps = SHOWN_IN_AN_HOUR[recipe] // recipe_named(recipe, 64).batch_size
    return case._replace(limits=(('max_steps', steps),), show_every=100)


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
HOURS = {f'hour-{recipe}-64': hour(recipe) for recipe in SHOWN_IN_AN_HOUR}
COLUMNS = {  # heading: (of the other network?, score, factor, digits after the point)
    'Fréchet distance': (False, 'frechet_distance', 1, 2),
    'kernel distance x 1000': (False, 'kernel_distance', 1000, 1),
    'precision': (False, 'precision', 1, 2),
    'recall': (False, 'recall', 1, 2),
    'dlib: kernel distance x 10,000': (True, 'kernel_distance', 10_000, 1),
    'faces found': (True, 'found_share', 1, 2),
    'of real ones': (True, 'found_share_of_real', 1, 2),
    'to the nearest': (True, 'to_the_nearest', 1, 2),
}


def table(lines):
    """Return a Markdown table of what was trained: of each score the median, and all in brackets."""
    rows = [['case', 'trainings', 'steps', *COLUMNS], ['---'] * (3 + len(COLUMNS))]
    for name, case in (CASES | HOURS).items():
        chosen = of_case(lines, name, case, 'auto')
        if chosen:
            steps = statistics.median(line['step'] for line in chosen)
            cells = [cell(chosen, *column) for column in COLUMNS.values()]
            rows.append([f'`{name}`', str(len(chosen)), f'{steps:,.0f}', *cells])
    return '\n'.join(f'| {" | ".join(row)} |' for row in rows)


def cell(lines, is_judged, score, factor, digits):
    """Return the median of a score, and the scores; nothing where no training has it."""
    found = [line.get('judged', {}) if is_judged else line['scores'] for line in lines]
    values = [factor * scores[score] for scores in found if score in scores]
    if not values:
        return ''
    every = ', '.join(f'{value:.{digits}f}' for value in values)
    return f'{statistics.median(values):.{digits}f} ({every})'


if __name__ == '__main__':
    sys.exit(main(__file__, __doc__, CASES | HOURS, table, default=list(CASES)))
