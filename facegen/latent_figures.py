"""Figures of what a generator makes of latents: walks among them, and tables of images."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from facegen import sampling
from facegen.directions import directions_of
from facegen.images import NOTEBOOK_WIDTH, as_image, described, enlarge, few_colors, narrow
from facegen.run import RunFolder

CAPTION_HEIGHT = 22  # pixels
FRAME = 2  # pixels around each image of a table
FRAME_COLOR = '#d55e00'
LARGE = 64  # pixels; in images as wide as that, few colours show as blotches


def latent_figures(run_dir):
    """Return {name: figure} of what the generator of a run makes of latents of the run's seed.

    They are 'walk', 'corners', 'truncation' and 'directions'. Raises like `sampling.restored` and
    `directions_of`.
    """
    run = RunFolder(run_dir)
    with sampling.restored(run) as trained:
        z = sampling.latents(run.config()['seed'], 8, trained.z_dim)
        kept = kept_numbers(run.recipe(), trained.z_dim)
        return {
            'walk': walk(trained, z[:4], kept=kept),
            'corners': corners(trained, z[:4], kept=kept),
            'truncation': truncation(trained, z),
            'directions': directions(trained, z[0], directions_of(trained, 4, kept=kept)),
        }


def kept_numbers(recipe, z_dim):
    """Return how many of a latent's first numbers choose its category, and so are kept on a walk.

    Where all of them do, none is kept: nothing else could change.
    """
    return recipe.z_categories if recipe.z_categories < z_dim else 0


def walk(draw, z, *, frames=9, kept=0):
    """Show a walk through latents z [n, z_dim] and back to the first; `draw` makes images of them.

    Row i goes in `frames` images from z[i], framed, towards z[i + 1], on the arc of
    `sampling.slerp`. The first `kept` numbers of a latent stay those of z[i] through the row: where
    they choose a category, the image would jump on the way.
    """
    on_the_way = sampling.walk(z[:, kept:], frames)
    latents = np.hstack([z[:, :kept].repeat(frames, axis=0), on_the_way])
    images = draw(latents)
    table = sheet(
        images.reshape(len(z), frames, *images.shape[1:]),
        framed=[(i, 0) for i in range(len(z))],
    )
    return described(table, f'{len(z)} rows of {frames} images, each turning into the next row')


def corners(draw, z, *, side=5, kept=0):
    """Show what lies between the four latents z [4, z_dim], which are in the corners, framed.

    Row by row the latent is slerp(slerp(z0, z1, s), slerp(z2, z3, s), t), s and t from 0 to 1. The
    first `kept` numbers are those of z[0] everywhere, since a category jumps.
    """
    share = np.linspace(0, 1, side)
    upper, lower = (sampling.slerp(z[i, kept:], z[i + 1, kept:], share) for i in (0, 2))
    between = sampling.slerp(upper, lower, share[:, None]).reshape(side**2, -1)
    images = draw(np.hstack([z[:1, :kept].repeat(side**2, axis=0), between]))
    table = sheet(
        images.reshape(side, side, *images.shape[1:]),
        framed=[(i, j) for i in (0, side - 1) for j in (0, side - 1)],
    )
    return described(table, f'{side}x{side} images that turn into each other from corner to corner')


def truncation(draw, z, *, factors=(1.5, 1, 0.7, 0.4)):
    """Show latents z [n, z_dim] pulled towards the centre: psi z for each psi of `factors`, in rows.

    It is the truncation trick, w' = c + psi (w - c) with c the centre (Karras et al. 2019,
    arXiv:1812.04948, appendix B), for latents uniform in [-1, 1], whose centre is 0. Below 1 the
    images are more usual and less varied, above 1 the reverse. A psi above 0 keeps the place of
    the largest number, and so the category.
    """
    table = sheet(
        np.stack([draw(np.float32(psi) * z) for psi in factors]),
        rows=[f'{psi:g} z' for psi in factors],
        framed=[(i, j) for i, psi in enumerate(factors) if psi == 1 for j in range(len(z))],
    )
    return described(
        table, f'Rows of the same {len(z)} latents, times {", ".join(map(str, factors))}'
    )


def directions(draw, z, vectors, *, reach=3, count=7):
    """Show the latent z [z_dim] moved along unit vectors [z_dim, k]: z + a v, a row for each v.

    a goes from -reach to reach in `count` steps, an odd number; z itself is in the framed middle.
    """
    lengths = np.linspace(-reach, reach, count).astype(np.float32)
    moved = z + lengths[:, None] * vectors.T[:, None]
    images = draw(moved.reshape(-1, len(z)).astype(np.float32))
    table = sheet(
        images.reshape(vectors.shape[1], count, *images.shape[1:]),
        rows=[f'direction {i}' for i in range(1, vectors.shape[1] + 1)],
        columns=[f'{length:+g}' if length else '0' for length in lengths],
        framed=[(i, count // 2) for i in range(vectors.shape[1])],
    )
    return described(table, f'One latent moved along {vectors.shape[1]} directions, a row for each')


def sheet(images, *, rows=(), columns=(), framed=()):
    """Put uint8 images [rows, columns, h, w, c] in a table, in few colours.

    `rows` are texts to the left, `columns` above it, `framed` the (row, column) of images that get
    a frame. It fits into a notebook: its images are as large as `enlarge` makes them for that.
    """
    num_rows, num_columns = images.shape[:2]
    font = ImageFont.load_default(15)
    left = 10 + int(max(map(font.getlength, rows))) if rows else 0
    top = CAPTION_HEIGHT if columns else 0
    room = (NOTEBOOK_WIDTH - left) // num_columns - 2 * FRAME
    images = in_few_colors(narrow(images, room))
    cells = [[enlarge(as_image(image), width=room) for image in row] for row in images]
    cell_width, cell_height = (side + 2 * FRAME for side in cells[0][0].size)
    size = left + num_columns * cell_width, top + num_rows * cell_height
    table = Image.new('RGB', size, 'white')
    draw = ImageDraw.Draw(table)
    for i, text in enumerate(rows):
        draw.text((0, top + (i + 0.5) * cell_height), text, 'black', font, anchor='lm')
    for j, text in enumerate(columns):
        draw.text((left + (j + 0.5) * cell_width, 2), text, 'black', font, anchor='mt')
    for i, j in np.ndindex(num_rows, num_columns):
        x, y = left + j * cell_width, top + i * cell_height
        if (i, j) in framed:
            draw.rectangle([x, y, x + cell_width - 1, y + cell_height - 1], FRAME_COLOR)
        table.paste(cells[i][j], (x + FRAME, y + FRAME))
    return table.quantize(256)  # beside those of the images, the greys of the texts


def in_few_colors(images):
    """Return uint8 images [rows, columns, h, w, c] as RGB ones, in few colours for all together."""
    rows, columns, height, width, channels = images.shape
    mosaic = images.swapaxes(1, 2).reshape(rows * height, columns * width, channels)
    count = 14 if channels == 1 else 64
    if width >= LARGE:
        count *= 2
    image = few_colors(as_image(mosaic).convert('RGB'), count)
    mosaic = np.asarray(image.convert('RGB')).reshape(rows, height, columns, width, 3)
    return mosaic.swapaxes(1, 2)
