"""The command line: train, generate and evaluate without Jupyter, and run old notebooks."""

import argparse
import ast
import json
import math
import os
import sys
from contextlib import redirect_stdout
from dataclasses import fields, replace
from pathlib import Path

from facegen.recipes import RECIPES, Recipe, renamed

PROGRAM = 'python -m facegen'
NOTE = (
    "Train the notebook's functions by a recipe of facegen/recipes.py. How often a line is printed "
    'or a grid is saved and evaluated comes from the parameter cell of the notebook.'
)
DEFAULT_RECIPES = {'mnist': 'digits', 'celeba': 'faces'}
# That a training sees by default: minutes on two cores
PICTURES = {'mnist': 120_000, 'celeba': 220_000, 'folder': 220_000}
EVALUATED = {'mnist': 10_000, 'celeba': 2000, 'folder': 2000}  # images of a run

# What the endings of --out ask for; a path without one is a folder
PICTURES_OUT = {
    '.npy': 'all images',
    '.png': 'a square grid',
    '.gif': 'a film',
    '.webp': 'a film',
    '': 'single images',
}
MODELS_OUT = {'': 'a SavedModel', '.onnx': 'an ONNX model'}


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


def setting(text):
    """Return (name, value) of `NAME=VALUE`, a setting of a recipe; a value is a literal or a word."""
    name, equals, value = map(renamed, text.partition('='))
    names = [field.name for field in fields(Recipe)]
    if not equals or name not in names:
        raise argparse.ArgumentTypeError(f'{text!r} is not NAME=VALUE with one of {names}')
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return name, value


def output(text):
    """Return the `Output` that a text names."""
    from facegen.output import Output

    return Output.named(text)


def path(text):
    """Return a path, with the home folder for a leading `~`, which shells leave in `--out=~/x`."""
    return Path(text).expanduser()


def parser():
    """Return the parser of all verbs."""
    main = Parser(prog=PROGRAM, description='Train a face-generation GAN, and draw images with it.')
    verbs = main.add_subparsers(dest='verb', required=True, metavar='VERB', parser_class=Parser)
    formats = {'formatter_class': argparse.ArgumentDefaultsHelpFormatter}

    verb = verbs.add_parser(
        'train', help='train a GAN and leave a run folder', description=NOTE, **formats
    )
    verb.set_defaults(run=train)
    add_dataset_options(verb, 'mnist, celeba, or a folder of JPEG or PNG images', required=True)
    verb.add_argument(
        '--epochs',
        type=whole_number(1),
        default=argparse.SUPPRESS,
        help='passes over the images (default: without end if --max-steps or --minutes is given; '
        'else those of the recipe for the full set, and of fewer images those that show '
        f'{PICTURES["mnist"]:,} for mnist and {PICTURES["celeba"]:,} for others, at least one)',
    )
    verb.add_argument(
        '--batch-size',
        type=whole_number(1),
        default=argparse.SUPPRESS,
        help='images in a step (default: as the recipe says)',
    )
    verb.add_argument(
        '--image-size', type=whole_number(4), default=28, help='side in pixels, a multiple of 4'
    )
    verb.add_argument(
        '--recipe',
        type=renamed,
        choices=sorted(RECIPES),
        default=argparse.SUPPRESS,
        help='settings of facegen/recipes.py (default: digits for mnist, faces otherwise)',
    )
    verb.add_argument(
        '--updates',
        type=renamed,
        choices=['simultaneous', 'alternating'],
        default=argparse.SUPPRESS,
        help='how the two networks are updated (default: as the recipe says)',
    )
    verb.add_argument(
        '--precision',
        choices=['auto', 'float32', 'float16'],
        default=argparse.SUPPRESS,
        help='of convolutions and matrix products (default: as the recipe says; auto: bfloat16 where '
        'the CPU multiplies it natively, float32 elsewhere; float16: on a GPU)',
    )
    verb.add_argument(
        '--xla',
        action='store_true',
        default=argparse.SUPPRESS,
        help='compile the graph; for a GPU (default: as the recipe says)',
    )
    verb.add_argument(
        '--set',
        type=setting,
        action='append',
        default=[],
        metavar='NAME=VALUE',
        help='change any setting of the recipe, such as learning_rate=1e-3; may be repeated',
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
    verb.add_argument(
        '--resume',
        action='store_true',
        help='go on with a run that was stopped or killed, as if it had not been: with that in '
        '--run-dir, else with the newest of the same settings (default: start a new run, which is '
        'also what happens where there is none)',
    )
    verb.add_argument(
        '--tensorboard',
        action='store_true',
        help='also write losses, scores, grids and histograms of the weights for `tensorboard --logdir '
        'runs` of the package tensorboard',
    )

    verb = verbs.add_parser('generate', help='draw images with a trained generator', **formats)
    verb.set_defaults(run=generate)
    verb.add_argument('run_dir', metavar='RUN', type=path, help='the run folder of a training')
    verb.add_argument('--count', type=whole_number(1), default=25, help='number of images')
    verb.add_argument('--seed', type=whole_number(0), default=0, help='of the latents')
    add_weights_option(verb)
    verb.add_argument(
        '--out',
        type=output,
        required=True,
        default=argparse.SUPPRESS,
        help='FILE.npy: all images, uint8 [count, height, width, channels]; FILE.png: a square grid; '
        'FOLDER, without an ending: 000000.png and so on; FILE.gif, FILE.webp: a film of the way '
        'from latent to latent and back to the first. A file is replaced, a folder never',
    )

    verb = verbs.add_parser(
        'export',
        help='save a trained generator for use without this project',
        description='Save a trained generator as a model that turns "latents", float32 [n, z_dim] in '
        '[-1, 1], into "pictures", uint8 [n, height, width, channels]: those of generate.',
        **formats,
    )
    verb.set_defaults(run=export)
    verb.add_argument('run_dir', metavar='RUN', type=path, help='the run folder of a training')
    add_weights_option(verb)
    verb.add_argument(
        '--out',
        metavar='FOLDER|FILE.onnx',
        type=output,
        required=True,
        default=argparse.SUPPRESS,
        help='FOLDER, which must be new: a SavedModel of TensorFlow, with the signature '
        'serving_default; FILE.onnx: ONNX, which needs the packages tf2onnx and onnxruntime',
    )

    verb = verbs.add_parser(
        'evaluate',
        help='say in numbers how good generated images are',
        description='Print one JSON object: what generated images score, and, under "real", what as '
        'many real ones do. facegen/evaluation.py says what each number means.',
        **formats,
    )
    verb.set_defaults(run=evaluate)
    verb.add_argument(
        'source',
        metavar='RUN|FILE.npy',
        type=path,
        help='the run folder of a training, or images: uint8 [count, height, width, channels]',
    )
    add_dataset_options(
        verb,
        'the real images: mnist, celeba or a folder (default: mnist for images of one channel)',
        required=False,
    )
    verb.add_argument(
        '--count',
        type=whole_number(1),
        default=argparse.SUPPRESS,
        help='number of images (default: of a run 10,000 digits or 2,000 others, of a file all)',
    )
    verb.add_argument(
        '--seed', type=whole_number(0), default=0, help='of the latents and of subsets'
    )
    add_weights_option(verb)

    verb = verbs.add_parser(
        'legacy',
        help='run an old notebook of the 2017 exercise, unmodified, on this TensorFlow',
        description='Run a notebook of TensorFlow 1 from its first cell to its last, and save it with '
        'its outputs. What it writes lies in OUT_files beside OUT. A failing cell ends with status 1.',
        **formats,
    )
    verb.set_defaults(run=legacy)
    verb.add_argument('notebook', metavar='NOTEBOOK.ipynb', type=path, help='is not changed')
    verb.add_argument(
        '--out',
        metavar='OUT.ipynb',
        type=path,
        required=True,
        default=argparse.SUPPRESS,
        help='where the notebook is saved with its outputs, after every cell',
    )
    add_data_options(verb)
    verb.add_argument(
        '--max-steps',
        type=whole_number(1),
        default=argparse.SUPPRESS,
        help='end each training loop after this many steps (default: when it ends itself)',
    )
    return main


def add_weights_option(verb):
    """Add to a verb the option that says which weights of a run draw."""
    verb.add_argument(
        '--weights',
        choices=['last', 'best'],
        default='last',
        help='of a run; best: those of the evaluation with the lowest Fréchet distance',
    )


def add_dataset_options(verb, dataset_help, *, required):
    """Add to a verb the options that say which real images it uses."""
    verb.add_argument(
        '--dataset',
        type=os.path.expanduser,
        required=required,
        default=argparse.SUPPRESS,
        help=dataset_help,
    )
    add_data_options(verb)


def add_data_options(verb):
    """Add to a verb the options that say where mnist and celeba are."""
    verb.add_argument('--data-dir', type=path, default='data', help='folder of mnist and celeba')
    verb.add_argument(
        '--data',
        choices=['auto', 'sample', 'full'],
        default='auto',
        help='of mnist and celeba; auto: the full set if it is there, else the sample; '
        'full downloads what is missing',
    )


def kind_of(dataset):
    """Return helper's name of what `--dataset` says: 'mnist', 'celeba' or 'folder'."""
    if dataset in DEFAULT_RECIPES:
        return dataset
    if dataset and Path(dataset).is_dir():
        return 'folder'
    raise ValueError(f'--dataset {dataset} is neither mnist nor celeba nor a folder of images')


def data_files(arguments):
    """Return the files of `--dataset`, which are fetched where they are missing."""
    import helper

    name = kind_of(arguments.dataset)
    if name == 'folder':
        return arguments.dataset
    return helper.download_extract(name, arguments.data_dir, data=arguments.data)


def train(arguments):
    """Train as the notebook does; print the run folder."""
    options = vars(arguments)
    name = kind_of(arguments.dataset)
    if not 0 < options.get('minutes', 1) < math.inf:
        raise ValueError(f'--minutes is {arguments.minutes}; expected more than 0')
    sample = 'celeba' if name == 'folder' else name  # whose settings suit these images
    recipe = RECIPES[options.get('recipe', DEFAULT_RECIPES[sample])]
    named = ('updates', 'batch_size', 'precision', 'xla')
    changes = {name: options[name] for name in named if name in options} | dict(arguments.set)
    recipe = replace(recipe, **{'image_size': arguments.image_size} | changes)

    import helper
    from facegen import notebook, session
    from facegen.evaluation import QuickEvaluation

    dataset = helper.Dataset(
        name,
        data_files(arguments),
        width=recipe.image_size,
        height=recipe.image_size,
        seed=arguments.seed,
    )
    print(f'{dataset.shape[0]:,} images; training on {session.device()}')
    limited = 'max_steps' in options or 'minutes' in options
    knobs = notebook.parameters()
    run_dir = notebook.definitions().train(
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
        run_dir=options.get(
            'run_dir', Path(knobs['runs_dir'], Path(arguments.dataset).resolve().name)
        ),
        resume=arguments.resume and options.get('run_dir', True),
        max_steps=options.get('max_steps'),
        minutes=options.get('minutes'),
        tensorboard=arguments.tensorboard,
        evaluation=QuickEvaluation(name, dataset.pixels),
    )
    print(f'run folder: {run_dir}')


def default_epochs(name, count, recipe):
    """Return the recipe's epochs over the full set, or those over `count` that show about PICTURES."""
    import helper

    if name in helper.SOURCES and count == helper.SOURCES[name].num_pictures:
        return getattr(recipe, f'{name}_epochs')
    return max(1, round(PICTURES[name] / count))


def run_and_step(arguments):
    """Return (run folder, step of its weights), so that a wrong one is told before TensorFlow starts."""
    from facegen.run import RunFolder

    run = RunFolder(arguments.run_dir)
    run.config()
    return run, run.saved_step(arguments.weights)


def generate(arguments):
    """Write images of a trained generator, which appear only when they are complete."""
    from facegen import output

    out = arguments.out
    out.check(PICTURES_OUT)
    is_film = out.kind in output.FILMS
    if is_film and arguments.count < 2:
        raise ValueError('--count is 1; a film leads from one latent to others: 2 or more')
    run, step = run_and_step(arguments)

    from facegen.sampling import latents, restored, walk

    with restored(run, arguments.weights) as generator:
        z = latents(arguments.seed, arguments.count, generator.z_dim)
        images = generator(walk(z, output.FILM_STEPS) if is_film else z)
    with out.complete() as path:
        words = output.save_pictures(path, images, out.kind)
    print(f'{out.path}: {words}, drawn after {step:,} steps of training')


def export(arguments):
    """Write a trained generator for use without this project, complete or not at all."""
    out = arguments.out
    out.check(MODELS_OUT)
    run, step = run_and_step(arguments)

    from facegen import export

    save = export.save_onnx if out.kind == '.onnx' else export.save_model
    with out.complete() as path:
        words = save(path, run, arguments.weights)
    print(f'{out.path}: {words}, after {step:,} steps of training')


def evaluate(arguments):
    """Print the scores of generated images, and of real ones, as one JSON object on one line."""
    with redirect_stdout(sys.stderr):
        scores = scores_of(arguments)
    print(json.dumps(scores, allow_nan=False))


def scores_of(arguments):
    """Return what `evaluate` prints."""
    import helper
    from facegen import evaluation
    from facegen.run import RunFolder

    source = arguments.source
    if not source.exists():
        raise FileNotFoundError(f'there is no run folder and no file {source}')
    if source.is_file():
        images = pictures_in(source)
        count = getattr(arguments, 'count', len(images))
        if count > len(images):
            raise ValueError(f'--count is {count}, but {source} holds {len(images)}; choose fewer')
        images = images[:count]
        shape, about = images.shape, {}
    else:
        run, images = RunFolder(source), None
        shape = run.config().get('data_shape')
        if not isinstance(shape, list) or len(shape) != 4:
            raise ValueError(f'{run.path} has a damaged config.json (data_shape is {shape!r})')
        about = {'weights': arguments.weights, 'step': run.saved_step(arguments.weights)}
    if 'dataset' not in arguments:
        if shape[-1] != 1:
            raise ValueError(
                f'--dataset is missing: {source} does not say which real images its own are '
                'like; give celeba or a folder'
            )
        arguments.dataset = 'mnist'
    name = kind_of(arguments.dataset)
    _, height, width, _ = shape
    real = helper.Dataset(name, data_files(arguments), width=width, height=height).pixels
    evaluation.check_shapes(shape, name, real.shape)
    if images is None:
        from facegen.sampling import generate

        count = getattr(arguments, 'count', EVALUATED[name])
        images = generate(run, count, arguments.seed, weights=arguments.weights)
    scores = evaluation.evaluate(images, name, real, seed=arguments.seed)
    return {
        'source': str(source),
        **about,
        **scores,
        'warnings': evaluation.warnings_of(scores),
        'real': evaluation.real_scores(name, real, len(images), seed=arguments.seed),
    }


def pictures_in(file):
    """Return the images of an .npy file, uint8 [n, h, w, c], as a memory map."""
    import numpy as np

    expected = 'expected uint8 [count, height, width, 1 or 3], as generate --out FILE.npy writes it'
    try:
        # Unlike np.load, it never unpickles, and takes no other format
        images = np.lib.format.open_memmap(file, mode='r')
    except ValueError as error:
        raise ValueError(f'{file} cannot be read ({error}); {expected}') from error
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(f'{file} holds {images.dtype} {list(images.shape)}; {expected}')
    return images


def legacy(arguments):
    """Run an old notebook; return 1 if a cell of it failed."""
    from facegen.legacy.run import CellFailedError, execute

    try:
        execute(
            arguments.notebook,
            arguments.out,
            data_dir=arguments.data_dir,
            data=arguments.data,
            max_steps=vars(arguments).get('max_steps'),
        )
    except CellFailedError as error:
        print(f'{PROGRAM} legacy: {error}', file=sys.stderr)
        return 1
    return 0


def prefer_own_modules():
    """Import this project's `helper`, even where a folder with an old one is the working folder."""
    sys.path.insert(0, str(Path(__file__).parent.parent))


def main(arguments=None):
    """Run the command line; return the exit status: 2 after bad input, 1 after a failure."""
    prefer_own_modules()
    arguments = parser().parse_args(arguments)
    try:
        status = arguments.run(arguments)
    except (ValueError, OSError, SyntaxError, ModuleNotFoundError) as error:
        print(f'{PROGRAM} {arguments.verb}: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        go_on = '; --resume goes on' if arguments.verb == 'train' else ''
        print(f'{PROGRAM} {arguments.verb}: interrupted{go_on}', file=sys.stderr)
        return 130
    except FloatingPointError as error:
        print(f'{PROGRAM} {arguments.verb}: {error}', file=sys.stderr)
        return 1
    return status or 0


if __name__ == '__main__':
    sys.exit(main())
