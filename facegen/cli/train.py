"""`train`: train the notebook's functions, and leave a run folder."""

import argparse
import math
import os
from dataclasses import replace
from pathlib import Path

from facegen.cli.options import (
    add_dataset_options,
    kind_of,
    open_dataset,
    path,
    setting,
    whole_number,
)
from facegen.cluster import WAIT_MINUTES, Cluster
from facegen.recipes import RECIPES, recipe_named, renamed

HELP = 'train a GAN and leave a run folder'
DESCRIPTION = (
    "Train the notebook's functions by a recipe of facegen/recipes.py. How often a line is printed "
    'or a grid is saved and evaluated comes from the parameter cell of the notebook.'
)


def add_options(parser):
    """Add the options of this verb to its parser."""
    add_image_options(parser)
    add_recipe_options(parser)
    add_run_options(parser)
    add_cluster_options(parser)


def add_image_options(parser):
    """Add what is trained on, and how often and in which size it is shown."""
    add_dataset_options(
        parser,
        'mnist, celeba, a folder of images, or an IDX file of digits or the like',
        crop_default='108 for images of up to 32 pixels, 140 for larger ones',
        required=True,
    )
    parser.add_argument(
        '--epochs',
        type=whole_number(1),
        default=argparse.SUPPRESS,
        help='passes over the images (default: no limit if --max-steps or --minutes is given; else '
        'those of the recipe for the full set, and for fewer images enough to show about as many, '
        'at least one)',
    )
    parser.add_argument(
        '--batch-size',
        type=whole_number(2),
        default=argparse.SUPPRESS,
        help='images in a step (default: as the recipe says)',
    )
    parser.add_argument(
        '--image-size', type=whole_number(4), default=28, help='side in pixels, a multiple of 4'
    )


def add_recipe_options(parser):
    """Add the recipe, what is changed in it, and the seed."""
    parser.add_argument(
        '--recipe',
        type=renamed,
        choices=sorted(RECIPES),
        default=argparse.SUPPRESS,
        help='settings of facegen/recipes.py (default: digits for mnist, faces otherwise)',
    )
    parser.add_argument(
        '--updates',
        type=renamed,
        choices=['simultaneous', 'alternating'],
        default=argparse.SUPPRESS,
        help='how the two networks are updated (default: as the recipe says)',
    )
    parser.add_argument(
        '--precision',
        choices=['auto', 'float32', 'float16'],
        default=argparse.SUPPRESS,
        help='of convolutions and matrix products (default: as the recipe says; auto: bfloat16 where '
        'the CPU multiplies it natively, float32 elsewhere; float16: on a GPU)',
    )
    parser.add_argument(
        '--xla',
        action='store_true',
        default=argparse.SUPPRESS,
        help='compile the graph; for a GPU (default: as the recipe says)',
    )
    parser.add_argument(
        '--set',
        type=setting,
        action='append',
        default=[],
        metavar='NAME=VALUE',
        help='change any setting of the recipe, such as learning_rate=1e-3; may be repeated',
    )
    parser.add_argument('--seed', type=whole_number(0), default=0, help='of all randomness')


def add_run_options(parser):
    """Add when the training ends, and what it leaves where."""
    parser.add_argument(
        '--max-steps',
        type=whole_number(1),
        default=argparse.SUPPRESS,
        help='end after this many steps (default: when the epochs are over)',
    )
    parser.add_argument(
        '--minutes',
        type=float,
        default=argparse.SUPPRESS,
        help='end after this many minutes of training (default: when the epochs are over)',
    )
    parser.add_argument(
        '--run-dir',
        type=path,
        default=argparse.SUPPRESS,
        help='folder to make; a number is added unless it is new or empty '
        '(default: runs/NAME_OF_DATASET)',
    )
    parser.add_argument(
        '--resume',
        action='store_true',
        help='go on with a run that was stopped or killed, as if it had not been: with the one in '
        '--run-dir, else with the newest of the same settings (default: start a new run, which is '
        'also what happens where there is none)',
    )
    parser.add_argument(
        '--tensorboard',
        action='store_true',
        help='also write losses, scores, grids and histograms of the weights for `tensorboard --logdir '
        'runs` of the package tensorboard',
    )


def add_cluster_options(parser):
    """Add what only counts where `TF_CONFIG` names several processes."""
    parser.add_argument(
        '--wait-minutes',
        type=float,
        default=WAIT_MINUTES,
        help='on several machines (TF_CONFIG): how long to wait for the others at most',
    )


def run(arguments):
    """Train as the notebook does; print the run folder."""
    from facegen.data.sources import DATASETS

    options = vars(arguments)
    cluster = Cluster.named_by(os.environ)
    if not 0 < arguments.wait_minutes < math.inf:
        raise ValueError(f'--wait-minutes is {arguments.wait_minutes}; expected more than 0')
    name = kind_of(arguments.dataset)
    if not 0 < options.get('minutes', 1) < math.inf:
        raise ValueError(f'--minutes is {arguments.minutes}; expected more than 0')
    named = ('updates', 'batch_size', 'precision', 'xla')
    changes = {name: options[name] for name in named if name in options} | dict(arguments.set)
    image_size = changes.get('image_size', arguments.image_size)
    recipe = recipe_named(options.get('recipe', DATASETS[name].recipe), image_size)
    recipe = replace(recipe, **changes)

    from facegen import distribution, notebook, session
    from facegen.evaluation import QuickEvaluation

    dataset = open_dataset(arguments, name, *[recipe.image_size] * 2, seed=arguments.seed)
    recipe = fitting(recipe, dataset.shape[0], is_given='batch_size' in changes)
    print(f'{dataset.shape[0]:,} images; training on {session.device()}')
    limited = 'max_steps' in options or 'minutes' in options
    knobs = notebook.parameters()
    functions = notebook.definitions()
    distribution.distribute(functions, cluster, wait_minutes=arguments.wait_minutes)
    run_dir = functions.train(
        options.get('epochs', None if limited else default_epochs(name, dataset.shape[0], recipe)),
        recipe.batch_size,
        recipe.z_dim,
        recipe.learning_rate,
        recipe.beta1,
        dataset.get_batches,
        dataset.shape,
        dataset.image_mode,
        recipe=recipe,
        seed=arguments.seed,
        print_every=knobs['print_every'],
        show_every=knobs['show_every'],
        show_n_images=knobs['show_n_images'],
        run_dir=options.get('run_dir') or default_run_dir(knobs['runs_dir'], arguments.dataset),
        resume=arguments.resume and options.get('run_dir', True),
        max_steps=options.get('max_steps'),
        minutes=options.get('minutes'),
        tensorboard=arguments.tensorboard,
        evaluation=QuickEvaluation(name, dataset.pixels),
    )
    if cluster is None or cluster.is_chief:
        print(f'run folder: {run_dir}')


def fitting(recipe, count, *, is_given):
    """Return a recipe whose batches are not larger than a data set of `count` images.

    Raises ValueError where too large batches are not the recipe's default, but `is_given`.
    """
    if count < 2:
        raise ValueError(
            f'--dataset holds {count} image that can be used; a training run needs 2 or more'
        )
    if recipe.batch_size <= count:
        return recipe
    if is_given:
        raise ValueError(
            f'batch_size is {recipe.batch_size}, but there are {count:,} images; choose --batch-size '
            f'{count} or less'
        )
    print(f'--batch-size is {count} instead of {recipe.batch_size}, since there are no more images')
    return replace(recipe, batch_size=count)


def default_run_dir(runs_dir, dataset):
    """Return the run folder of a data set; beside a folder of images rather than among them."""
    place = Path(dataset).resolve()
    if place.is_dir() and Path(runs_dir).resolve().is_relative_to(place):
        run_dir = Path(os.path.relpath(place.parent)) / runs_dir / place.name
        print('the run is kept outside the folder of images; --run-dir names another place')
        return run_dir
    return Path(runs_dir, place.stem if place.is_file() else place.name)


def default_epochs(name, count, recipe):
    """Return the recipe's epochs for the full set; for a smaller one, enough for as many images.

    An epoch leaves out what does not fill a batch.
    """
    from facegen.data.sources import DATASETS

    if count == DATASETS[name].num_images:
        return getattr(recipe, f'{name}_epochs')
    shown_by_an_epoch = count - count % recipe.batch_size
    return max(1, round(DATASETS[name].images_shown / shown_by_an_epoch))
