"""`generate`: draw images with a trained generator."""

import argparse

from facegen.cli.options import (
    add_run_option,
    add_weights_option,
    output,
    run_and_step,
    whole_number,
)

HELP = 'draw images with a trained generator'
DESCRIPTION = None  # the options say the rest

# What the endings of --out ask for; a path without one is a folder
IMAGES_OUT = {
    '.npy': 'all images',
    '.png': 'a square grid',
    '.gif': 'a film',
    '.webp': 'a film',
    '': 'single images',
}


def add_options(parser):
    """Add the options of this verb to its parser."""
    add_run_option(parser)
    parser.add_argument('--count', type=whole_number(1), default=25, help='number of images')
    parser.add_argument('--seed', type=whole_number(0), default=0, help='of the latents')
    add_weights_option(parser)
    parser.add_argument(
        '--out',
        type=output,
        required=True,
        default=argparse.SUPPRESS,
        help='FILE.npy: all images, uint8 [count, height, width, channels]; FILE.png: a square grid; '
        'FOLDER, without an ending: 000000.png and so on; FILE.gif, FILE.webp: a film of the way '
        'from latent to latent and back to the first. A file is replaced, a folder never',
    )


def run(arguments):
    """Write images of a trained generator, which appear only when they are complete."""
    from facegen.files import complete, writing
    from facegen.output import FILM_STEPS, FILMS, save_images

    out = arguments.out
    out.check(IMAGES_OUT)
    is_film = out.kind in FILMS
    if is_film and arguments.count < 2:
        raise ValueError('--count is 1; a film leads from one latent to others: 2 or more')
    run, step = run_and_step(arguments)

    from facegen.sampling import latents, restored, walk

    with restored(run, arguments.weights) as generator:
        z = latents(arguments.seed, arguments.count, generator.z_dim)
        images = generator(walk(z, FILM_STEPS) if is_film else z)
    with writing(out.path, 'run this again'), complete(out.path) as path:
        words = save_images(path, images, out.kind)
    print(f'{out.path}: {words}, drawn after {step:,} steps of training')
