"""What `generate` and `export` write: files and folders that appear when they are complete."""

import math
import mimetypes
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from facegen.files import expanded
from facegen.images import as_image, mode_of, square_grid

FOLDER = ''  # the ending of a path that is to be a folder
FILMS = {'.gif': 'GIF', '.webp': 'WEBP'}
FILM_STEPS = 8  # frames from one latent to the next
FILM_SIDE = 112  # pixels of a frame at most, if its images are smaller
FILM_MILLISECONDS = 80  # that each frame stays
GIF_COLORS = 128  # in all frames; with more, 25 faces take over 1 MB


class Output(NamedTuple):
    """A path to write to, and its ending in lower case, `FOLDER` if a folder is meant."""

    path: Path
    kind: str

    @classmethod
    def named(cls, text):
        """Return the output of that name: a folder where it ends in a slash, or in no file's ending.

        The endings of 'v1.0' and 'faces_2024.05.01' are none.
        """
        path = expanded(text)
        is_folder = text.endswith(('/', os.sep))
        is_ending = path.suffix[1:].isalpha() or mimetypes.guess_type(path.name)[0]
        return cls(path, path.suffix.lower() if is_ending and not is_folder else FOLDER)

    def check(self, kinds):
        """Raise ValueError or OSError if nothing can be written there; `kinds` are {ending: meaning}.

        A file that is there may be replaced, a folder may not.
        """
        if self.kind not in kinds:
            names = {kind: f'FILE{kind}' if kind else 'FOLDER' for kind in kinds}
            known = ', '.join(f'{names[kind]} ({meaning})' for kind, meaning in kinds.items())
            raise ValueError(
                f'--out {self.path} ends in {self.kind}; choose one of {known}; a folder of that '
                'name is written with / at its end'
            )
        parent = self.path.parent
        if not parent.is_dir():
            raise FileNotFoundError(f'--out {self.path}: there is no folder {parent}')
        if self.path.is_dir() or (self.kind == FOLDER and self.path.exists()):
            raise FileExistsError(f'--out {self.path} is there already; choose a new name')


def save_images(path, images, kind):
    """Save uint8 images [n, h, w, c] as an `Output` of a kind says; return a description of it."""
    if kind in FILMS:
        return save_film(path, images, FILMS[kind])
    return {'.npy': save_array, '.png': save_grid, FOLDER: save_singly}[kind](path, images)


def save_array(path, images):
    """Save uint8 images [n, h, w, c] for `np.load`; return a description."""
    with path.open('wb') as file:
        np.save(file, images, allow_pickle=False)
    return f'{len(images)} images'


def save_grid(path, images):
    """Save as many uint8 images [n, h, w, c] as fill a square, as one PNG; return a description."""
    grid = square_grid(images, mode_of(images), value_range=(0, 255))
    grid.save(path, 'PNG')
    shown = math.isqrt(len(images)) ** 2
    left_out = len(images) - shown
    return f'{shown} images' + (f' ({left_out} more do not fill a square)' if left_out else '')


def save_singly(path, images):
    """Save uint8 images [n, h, w, c] as 000000.png and so on in a new folder; return a description."""
    path.mkdir()
    for number, image in enumerate(images):
        as_image(image).save(path / f'{number:06d}.png')
    return f'{len(images)} images'


def save_film(path, images, kind):
    """Save uint8 frames [n, h, w, c] as an endless GIF or, without loss, WebP; return a description."""
    factor = max(1, FILM_SIDE // images.shape[1])
    palette = None
    if kind == 'GIF' and mode_of(images) == 'RGB':  # one palette, so that no colour flickers
        palette = as_image(np.concatenate(images)).quantize(GIF_COLORS)

    def frame(image):
        large = as_image(image.repeat(factor, 0).repeat(factor, 1))
        return large.quantize(palette=palette, dither=Image.Dither.NONE) if palette else large

    options = {'duration': FILM_MILLISECONDS, 'loop': 0}
    if kind == 'WEBP':
        options['lossless'] = True
    first, *others = images
    frame(first).save(path, kind, save_all=True, append_images=map(frame, others), **options)
    return f'a film of {len(images)} frames'
