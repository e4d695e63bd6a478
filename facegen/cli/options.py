"""What several verbs share: types of values, options, and what is done with them."""

import argparse
import ast
import os
from dataclasses import fields
from pathlib import Path

from facegen.files import expanded
from facegen.recipes import Recipe, renamed

PUBLISHED = 'mnist', 'celeba'


def whole_number(lowest):
    """Return an argparse type: a whole number of at least `lowest`."""

    def parse(text):
        number = int(text)
        if number < lowest:
            raise argparse.ArgumentTypeError(f'{number} is too small; expected at least {lowest}')
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

    return clearly(Output.named, text)


def path(text):
    """Return a path, with the home folder for a leading `~`, which shells leave in `--out=~/x`."""
    return clearly(expanded, text)


def clearly(parse, text):
    """Return what `parse` makes of a text; argparse shows the text of its ValueError."""
    try:
        return parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(error) from error


def dataset(text):
    """Return a name of a published data set, or a path, as a string."""
    return os.fspath(path(text)) if text.startswith('~') else text


def add_run_option(parser):
    """Add to a verb the run folder whose generator it uses."""
    parser.add_argument('run_dir', metavar='RUN', type=path, help='the folder of a training run')


def add_weights_option(parser):
    """Add to a verb the option that says which weights of a run draw."""
    parser.add_argument(
        '--weights',
        choices=['last', 'best'],
        default='last',
        help='which weights of a run to use; best: those with the lowest Fréchet distance',
    )


def add_dataset_options(parser, dataset_help, *, crop_default, required):
    """Add to a verb the options that say which real images it uses, and how they are read."""
    parser.add_argument(
        '--dataset',
        type=dataset,
        required=required,
        default=argparse.SUPPRESS,
        help=dataset_help,
    )
    add_data_options(parser)
    parser.add_argument(
        '--background',
        metavar='COLOUR',
        default='white',
        help='of a folder: the colour seen through transparent pixels, such as black or #00ff00',
    )
    parser.add_argument(
        '--white-level',
        type=float,
        default=argparse.SUPPRESS,
        help='of a folder: what is white in images of 16 or 32 bits, such as 4095 for those of 12 '
        '(default: 65,535)',
    )
    parser.add_argument(
        '--crop',
        metavar='PIXELS',
        type=whole_number(1),
        default=argparse.SUPPRESS,
        help='of celeba: side of the central square that is used, 1 to 178 '
        f'(default: {crop_default})',
    )
    parser.add_argument(
        '--decode-anew',
        action='store_true',
        help='decode all images again, even if no change to them is seen',
    )


def add_data_options(parser):
    """Add to a verb the options that say where mnist and celeba are."""
    parser.add_argument('--data-dir', type=path, default='data', help='folder of mnist and celeba')
    parser.add_argument(
        '--data',
        choices=['auto', 'sample', 'full'],
        default='auto',
        help='of mnist and celeba; auto: the full set if it is there, else the sample; '
        'full downloads what is missing',
    )


def kind_of(dataset):
    """Return the name of `--dataset` in the table of data sets; a path is 'folder', 'idx' or MNIST's."""
    if dataset in PUBLISHED:
        return dataset
    if dataset and Path(dataset).is_dir():
        return 'folder'
    if dataset and Path(dataset).is_file():
        from facegen.data.idx import idx_header
        from facegen.data.sources import kind_of_idx

        try:
            idx_header(dataset)
        except ValueError as error:
            raise ValueError(
                f'--dataset {dataset} is a file, but no IDX file of images ({error}); expected one, or '
                'a folder of images'
            ) from error
        return kind_of_idx(dataset)
    raise ValueError(
        f'--dataset {dataset} is neither mnist nor celeba nor a folder of images nor an IDX file'
    )


def open_dataset(arguments, name, width, height, *, seed=0):
    """Return the `Dataset` of `--dataset`, of which `name` is the kind; missing files are fetched."""
    from facegen.data.dataset import Dataset

    files = arguments.dataset
    if files in PUBLISHED:
        if Path(files).exists():
            print(f'--dataset {files} is the published one; --dataset ./{files} is yours')
        files = None
    options = vars(arguments)
    return Dataset(
        name,
        files,
        data_path=arguments.data_dir,
        data=arguments.data,
        width=width,
        height=height,
        seed=seed,
        background=arguments.background,
        white_level=options.get('white_level'),
        crop=options.get('crop'),
        decode_anew=arguments.decode_anew,
    )


def run_and_step(arguments):
    """Return (run folder, step of its weights), so that a wrong one is told before TensorFlow starts."""
    from facegen.run import RunFolder

    run = RunFolder(arguments.run_dir)
    run.config()
    return run, run.saved_step(arguments.weights)
