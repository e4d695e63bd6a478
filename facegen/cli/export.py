"""`export`: save a trained generator for use without this project."""

import argparse

from facegen.cli.options import add_run_option, add_weights_option, output, run_and_step

HELP = 'save a trained generator for use without this project'
DESCRIPTION = (
    'Save a trained generator as a page that draws its images in a browser, or as a model that turns '
    '"latents", float32 [n, z_dim] in [-1, 1], into "pictures", uint8 [n, height, width, channels]: '
    'those of generate.'
)

# What the endings of --out ask for; a path without one is a folder
MODELS_OUT = {'': 'a SavedModel', '.onnx': 'an ONNX model', '.html': 'a page'}


def add_options(parser):
    """Add the options of this verb to its parser."""
    add_run_option(parser)
    add_weights_option(parser)
    parser.add_argument(
        '--out',
        metavar='FOLDER|FILE.onnx|FILE.html',
        type=output,
        required=True,
        default=argparse.SUPPRESS,
        help='FOLDER, which must be new: a SavedModel of TensorFlow, with the signature '
        'serving_default; FILE.onnx: ONNX, which needs the packages tf2onnx and onnxruntime; '
        'FILE.html: a page that draws in any browser, without a server or a network',
    )


def run(arguments):
    """Write a trained generator for use without this project, complete or not at all."""
    from facegen.files import complete, is_pattern
    from facegen.output import FOLDER

    out = arguments.out
    out.check(MODELS_OUT)
    if out.kind == FOLDER and is_pattern(out.path.absolute()):
        raise ValueError(
            f'--out {out.path.absolute()}: TensorFlow takes this path for a pattern and could not load '
            'the model; choose a folder without square brackets and backslashes in its path'
        )
    run, step = run_and_step(arguments)

    from facegen import export, page

    save = {'': export.save_model, '.onnx': export.save_onnx, '.html': page.save_page}[out.kind]
    with complete(out.path) as path:
        words = save(path, run, arguments.weights)
    print(f'{out.path}: {words}, after {step:,} steps of training')
