"""The command line: train and generate without Jupyter."""

import argparse
import math
import os
import sys
from dataclasses import replace
from pathlib import Path

from facegen.recipes import RECIPES

PROGRAM = 'python -m facegen'
NOTE = (
    "Train the notebook's functions. The length of a latent, the learning rates and how often a "
    'line is printed or a grid is saved come from its parameter cell.'
)
DEFAULT_RECIPES = {'mnist': 'digits', 'celeba': 'faces'}
PICTURES = 100_000  # that a training goes through unless told otherwise; minutes on two cores


class Parser(argparse.ArgumentParser):
    """A parser whose complaint is one line."""

    def error(self, message):
        """Print the message and where to find help; exit with status 2."""
        self.exit(2, f'{self.prog}: {message}; see {self.prog} --help\n')


def whole_number(lowest):
    """Return an argparse type: a whole number of at least `lowest`."""

    def parse(text):
        number = int(text)
        if number < lowest:
            raise argparse.ArgumentTypeError(f'{number} is too few; expected at least {lowest}')
        return number

    parse.__name__ = 'whole number'  # argparse puts it into its message
    return parse


def path(text):
    """Return a path, with the home folder for a leading `~`, which shells leave in `--out=~/x`."""
    return Path(text).expanduser()


def parser():
    """Return the parser of all verbs."""
    main = Parser(
        prog=PROGRAM, description='Train a face-generation GAN, and draw pictures with it.'
    )
    verbs = main.add_subparsers(dest='verb', required=True, metavar='VERB', parser_class=Parser)
    formats = {'formatter_class': argparse.ArgumentDefaultsHelpFormatter}

    verb = verbs.add_parser(
        'train', help='train a GAN and leave a run folder', description=NOTE, **formats
    )
    verb.set_defaults(run=train)
    verb.add_argument(
        '--dataset',
        type=os.path.expanduser,
        required=True,
        default=argparse.SUPPRESS,
        help='mnist, celeba, or a folder of JPEG or PNG pictures',
    )
    verb.add_argument('--data-dir', type=path, default='data', help='folder of mnist and celeba')
    verb.add_argument(
        '--data',
        choices=['auto', 'sample', 'full'],
        default='auto',
        help='of mnist and celeba; auto: the full set if it is there, else the sample; '
        'full downloads what is missing',
    )
    verb.add_argument(
        '--epochs',
        type=whole_number(1),
        default=argparse.SUPPRESS,
        help=f'passes over the pictures (default: those that show {PICTURES:,}, at least one; '
        'without end if --max-steps or --minutes is given)',
    )
    verb.add_argument('--batch-size', type=whole_number(1), default=64, help='pictures in a step')
    verb.add_argument(
        '--image-size', type=whole_number(4), default=28, help='side in pixels, a multiple of 4'
    )
    verb.add_argument(
        '--recipe',
        choices=sorted(RECIPES),
        default=argparse.SUPPRESS,
        help='settings of facegen/recipes.py (default: digits for mnist, faces otherwise)',
    )
    verb.add_argument(
        '--updates',
        choices=['together', 'in-turn'],
        default=argparse.SUPPRESS,
        help='how the two networks are updated (default: as the recipe says)',
    )
    verb.add_argument('--seed', type=whole_number(0), default=0, help='of all randomness')
    verb.add_argument(
        '--max-steps',
        type=whole_number(1),
        default=argparse.SUPPRESS,
        help='end after this many steps (default: when the epochs are over)',
    )
    verb.add_argument(
        '--minutes',
        type=float,
        default=argparse.SUPPRESS,
        help='end after this many minutes of training (default: when the epochs are over)',
    )
    verb.add_argument(
        '--run-dir',
        type=path,
        default=argparse.SUPPRESS,
        help='folder to make; a number is added unless it is new or empty '
        '(default: runs/NAME_OF_DATASET)',
    )

    verb = verbs.add_parser('generate', help='draw pictures with a trained generator', **formats)
    verb.set_defaults(run=generate)
    verb.add_argument('run_dir', metavar='RUN', type=path, help='the run folder of a training')
    verb.add_argument('--count', type=whole_number(1), default=25, help='number of pictures')
    verb.add_argument('--seed', type=whole_number(0), default=0, help='of the latents')
    verb.add_argument(
        '--out',
        type=path,
        required=True,
        default=argparse.SUPPRESS,
        help='FILE.npy: all pictures, uint8 [count, height, width, channels]; '
        'FILE.png: a square grid',
    )
    return main


def train(arguments):
    """Train as the notebook does; print the run folder."""
    options = vars(arguments)
    folder = arguments.dataset not in DEFAULT_RECIPES
    if folder and not (arguments.dataset and Path(arguments.dataset).is_dir()):
        raise ValueError(
            f'--dataset {arguments.dataset} is neither mnist nor celeba nor a folder of pictures'
        )
    if not 0 < options.get('minutes', 1) < math.inf:
        raise ValueError(f'--minutes is {arguments.minutes}; expected more than 0')
    sample = 'celeba' if folder else arguments.dataset  # whose settings suit these pictures
    recipe = RECIPES[options.get('recipe', DEFAULT_RECIPES[sample])]
    recipe = replace(recipe, image_size=arguments.image_size)
    if 'updates' in options:
        recipe = replace(recipe, updates=arguments.updates)

    import helper
    from facegen import notebook, session

    if folder:
        name, files = 'folder', arguments.dataset
    else:
        name = arguments.dataset
        files = helper.download_extract(name, arguments.data_dir, data=arguments.data)
    dataset = helper.Dataset(
        name, files, width=recipe.image_size, height=recipe.image_size, seed=arguments.seed
    )
    print(f'{dataset.shape[0]:,} pictures; training on {session.device()}')
    limited = 'max_steps' in options or 'minutes' in options
    knobs = notebook.parameters()
    run_dir = notebook.definitions().train(
        options.get('epochs', None if limited else default_epochs(dataset.shape[0])),
        arguments.batch_size,
        knobs['z_dim'],
        knobs[f'{sample}_learning_rate'],
        knobs['beta1'],
        dataset.get_batches,
        dataset.shape,
        dataset.image_mode,
        recipe=recipe,
        seed=arguments.seed,
        print_every=knobs['print_every'],
        show_every=knobs['show_every'],
        show_n_images=knobs['show_n_images'],
        run_dir=options.get(
            'run_dir', Path(knobs['runs_dir'], Path(arguments.dataset).resolve().name)
        ),
        max_steps=options.get('max_steps'),
        minutes=options.get('minutes'),
    )
    print(f'run folder: {run_dir}')


def default_epochs(count):
    """Return the epochs over `count` pictures that show the networks about PICTURES of them."""
    return max(1, round(PICTURES / count))


def generate(arguments):
    """Write pictures of a trained generator to a file, which appears only when it is complete."""
    import numpy as np

    import helper
    from facegen.run import RunFolder

    if arguments.out.suffix.lower() not in ('.npy', '.png'):
        raise ValueError(f'--out {arguments.out} ends in neither .npy nor .png')
    if not arguments.out.parent.is_dir():
        raise ValueError(f'--out {arguments.out}: there is no folder {arguments.out.parent}')
    run = RunFolder(arguments.run_dir)
    run.config()  # so that a wrong folder is told before TensorFlow starts
    run.checkpoint()

    from facegen.sampling import generate

    images = generate(run, arguments.count, arguments.seed)
    partial = arguments.out.with_name(f'.{arguments.out.name}.partial')
    try:
        with partial.open('wb') as file:
            if arguments.out.suffix.lower() == '.npy':
                np.save(file, images, allow_pickle=False)
                written = len(images)
            else:
                mode = 'L' if images.shape[-1] == 1 else 'RGB'
                grid = helper.images_square_grid(images, mode, value_range=(0, 255))
                grid.save(file, 'PNG')
                written = (grid.width // images.shape[2]) ** 2
        partial.replace(arguments.out)
    finally:
        partial.unlink(missing_ok=True)
    left_out = len(images) - written
    print(
        f'{arguments.out}: {written} pictures, drawn after {run.saved_step():,} steps of training'
        + (f'; {left_out} more do not fill a square' if left_out else '')
    )


def main(arguments=None):
    """Run the command line; return the exit status, 2 after bad input."""
    arguments = parser().parse_args(arguments)
    try:
        arguments.run(arguments)
    except (ValueError, OSError, SyntaxError) as error:
        print(f'{PROGRAM} {arguments.verb}: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f'{PROGRAM} {arguments.verb}: interrupted; a run keeps its weights', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
