"""The command line: train, generate and evaluate without Jupyter, and run old notebooks."""

import argparse
import sys
from pathlib import Path

from facegen import __version__
from facegen.cli import evaluate, export, generate, legacy, train
from facegen.cli.streams import unbreakable
from facegen.cluster import ProcessLostError

COMMAND = 'facegen'  # that pip installs
PROGRAM = COMMAND if Path(sys.argv[0]).stem == COMMAND else 'python -m facegen'
# In the order of --help. Only their functions import TensorFlow, so bad input is reported at once
VERBS = {
    'train': train,
    'generate': generate,
    'export': export,
    'evaluate': evaluate,
    'legacy': legacy,
}


class Parser(argparse.ArgumentParser):
    """A parser whose complaint is one line."""

    def error(self, message):
        """Print the message and where to find help; exit with status 2."""
        self.exit(2, f'{self.prog}: {message}; see {self.prog} --help\n')


def parser():
    """Return the parser of all verbs."""
    main = Parser(prog=PROGRAM, description='Train a face-generation GAN, and draw images with it.')
    main.add_argument('--version', action='version', version=f'{COMMAND} {__version__}')
    verbs = main.add_subparsers(dest='verb', required=True, metavar='VERB', parser_class=Parser)
    for name, module in VERBS.items():
        verb = verbs.add_parser(
            name,
            help=module.HELP,
            description=module.DESCRIPTION,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        verb.set_defaults(run=module.run)
        module.add_options(verb)
    return main


def main(arguments=None):
    """Run the command line; return the exit status: 2 after bad input, 1 after a failure.

    Output that cannot be written is a failure too, but never ends what is going on: a training run stops
    and saves.
    """
    with unbreakable() as output:
        status = status_of(arguments)
        output.flush()
        return 1 if output.reason and not status else status


def out_of_memory():
    """Return the errors that mean it: Python's, and TensorFlow's of a GPU if that is what runs."""
    tensorflow = sys.modules.get('tensorflow')
    return (MemoryError, *([tensorflow.errors.ResourceExhaustedError] if tensorflow else []))


def status_of(arguments):
    """Return the exit status of a command line."""
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
    except out_of_memory() as error:
        text = str(error).partition('\n')[0] or 'there is too little'
        print(
            f'{PROGRAM} {arguments.verb}: not enough memory ({text}); ask for less', file=sys.stderr
        )
        return 1
    except (FloatingPointError, ProcessLostError) as error:
        print(f'{PROGRAM} {arguments.verb}: {error}', file=sys.stderr)
        return 1
    return status or 0
