"""Many image files become pixels, on all CPUs; one that cannot be decoded is named and left out."""

import errno
import math
import os
import tempfile
import warnings
from collections.abc import Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from facegen.data.crop import Note
from facegen.data.listing import FORBIDDEN, GONE_SINCE, LEFT_BEHIND
from facegen.data.processes import map_in_processes
from facegen.files import one_at_a_time
from facegen.machine import cpu_count

AT_ONCE = 64  # images decoded by one process
MANY_BYTES = 25 << 20  # of files, 3,900 faces: processes save more time than they need to start
MEASURED = 1000  # files, whose sizes tell how much there is to do
MAX_PROCESSES = 8  # each needs 35 MB
# A damaged image makes Pillow seek impossible positions (EINVAL); others may not be read, or are gone
OF_THE_FILE = None, errno.EINVAL, errno.EACCES, errno.EPERM, errno.ENOENT
NO_IMAGE = 'no image'
HEIC = b'heic', b'heix', b'heim', b'heis', b'hevc', b'hevx', b'mif1', b'msf1'
# How files begin that are found among images and are none
BEGINNINGS = {
    b'version https://git-lfs': 'a pointer of Git LFS, which "git lfs pull" replaces by the image',
    b'\x00\x05\x16\x07': LEFT_BEHIND,
    b'<!doctype html': 'a page of HTML, as from a failed download',
    b'<html': 'a page of HTML, as from a failed download',
}


class Decoded(NamedTuple):
    """What some files hold."""

    images: np.ndarray  # uint8 [n, ...]
    skipped: Sequence = ()  # (position among the files, reason) of those without an image
    notes: Sequence = ()  # args of each `crop.Note`


def decode_files(keys, locate, read, *, alone=None):
    """Yield `Decoded` of what `read` makes of the files of `keys`, in order, a few of them ahead.

    `locate` maps a key to a file. Where there is much to do, processes share it, since threads would
    wait for the interpreter's lock most of the time. `alone` names the argument of `read` that is a
    context for one process at a time.
    """
    workers = min(cpu_count(), MAX_PROCESSES)
    mean_size = np.mean([size_of(locate(key)) for key in evenly(keys, MEASURED)])
    in_turn = workers == 1 or mean_size * len(keys) < MANY_BYTES
    size = AT_ONCE if in_turn else min(AT_ONCE, math.ceil(len(keys) / (4 * workers)))
    chunks = [
        [locate(key) for key in keys[first : first + size]] for first in range(0, len(keys), size)
    ]
    if in_turn:
        yield from map(partial(decode_some, read=read), chunks)
        return
    with tempfile.TemporaryDirectory() as folder:
        if alone:
            read = partial(read, **{alone: partial(one_at_a_time, Path(folder))})
        yield from map_in_processes(partial(decode_some, read=read), chunks, workers)


def size_of(file):
    """Return the bytes of a file, 0 where it is gone."""
    try:
        return os.path.getsize(file)
    except FileNotFoundError:
        return 0


def evenly(keys, count):
    """Return up to `count` of the keys, evenly spread."""
    chosen = np.linspace(0, len(keys) - 1, min(len(keys), count)).astype(int)
    return [keys[i] for i in chosen]


def decode_some(files, read):
    """Return `Decoded` of what `read` makes of the files, without those that hold no image.

    Raises OSError, with the file, where the system fails rather than the file, and MemoryError.
    """
    images, skipped = [], []
    with quiet_libraries() as caught:
        for position, file in enumerate(files):
            noted = len(caught)
            try:
                images.append(read(file))
            except MemoryError:
                raise
            except Exception as error:  # whatever Pillow raises for a damaged file
                if isinstance(error, OSError) and error.errno not in OF_THE_FILE:
                    raise OSError(error.errno, error.strerror, file) from error
                skipped.append((position, reason_of(error, file)))
                del caught[noted:]
    notes = [warning.message.args for warning in caught]
    return Decoded(np.array(images, np.uint8), skipped, notes)


@contextmanager
def quiet_libraries():
    """Inside, neither warnings nor what libraries write to stderr is seen, such as libtiff's.

    They only repeat what Pillow raises, or are about files that it can read. Yields a list that grows
    by each `Note`.
    """
    with warnings.catch_warnings(record=True) as caught, ExitStack() as stack:
        warnings.simplefilter('ignore')
        warnings.simplefilter('always', Note)
        with suppress(OSError):  # closed, as for a service
            stderr = os.dup(2)
            stack.callback(os.close, stderr)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            stack.callback(os.close, nowhere)
            os.dup2(nowhere, 2)
            stack.callback(os.dup2, stderr, 2)
        yield caught


def reason_of(error, file):
    """Return one line that says why a file is left out, without its name, which users write differently."""
    if isinstance(error, UnidentifiedImageError):
        return kind_of(file)
    if isinstance(error, Image.DecompressionBombError):
        most = 2 * Image.MAX_IMAGE_PIXELS // 1_000_000
        return f'more than {most} megapixels, the most that is decoded: make it smaller'
    if isinstance(error, FileNotFoundError):
        return GONE_SINCE
    if isinstance(error, PermissionError):
        return f'{FORBIDDEN}: once it is, decode anew'
    text = ' '.join(str(error).replace(f' {file!r}', '').split()) or type(error).__name__
    return text if isinstance(error, (OSError, ValueError, SyntaxError)) else f'damaged: {text}'


def kind_of(file):
    """Return what a file is that is no image for Pillow."""
    with open(file, 'rb') as opened:
        beginning = opened.read(32).lstrip().lower()
    if not beginning:
        return 'empty'
    if beginning[4:8] == b'ftyp' and beginning[8:12] in HEIC:
        return 'HEIC, which needs to be converted to JPEG or PNG'
    kinds = (kind for start, kind in BEGINNINGS.items() if beginning.startswith(start))
    return next(kinds, NO_IMAGE)
