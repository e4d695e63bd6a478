"""`legacy`: run an old notebook of the 2017 exercise."""

import argparse
import sys

from facegen.cli.options import add_data_options, path, whole_number

HELP = 'run an old notebook of the 2017 exercise, unmodified, on this TensorFlow'
DESCRIPTION = (
    'Run a notebook of TensorFlow 1 from its first cell to its last, and save it with '
    'its outputs. What it writes lies in OUT_files beside OUT. If a cell fails, the status is 1.'
)


def add_options(parser):
    """Add the options of this verb to its parser."""
    parser.add_argument('notebook', metavar='NOTEBOOK.ipynb', type=path, help='is not changed')
    parser.add_argument(
        '--out',
        metavar='OUT.ipynb',
        type=path,
        required=True,
        default=argparse.SUPPRESS,
        help='where the notebook is saved with its outputs, after every cell',
    )
    add_data_options(parser)
    parser.add_argument(
        '--max-steps',
        type=whole_number(1),
        default=argparse.SUPPRESS,
        help='end each training loop after this many steps (default: when it ends by itself)',
    )


def run(arguments):
    """Run an old notebook; return 1 if a cell of it failed."""
    from facegen.cli import PROGRAM  # here, because it imports this module
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
