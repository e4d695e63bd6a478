"""The cache: images are decoded once, into a file beside them that is mapped into memory."""

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from facegen.data.decode import evenly
from facegen.files import PARTIAL, UNWRITABLE, complete, locked, remove
from facegen.screen import progress

PIXELS, HEADER = 'pixels.u8', 'header.json'  # the files of a cache
MAX_WATCHED = 1000  # files that are looked at when a cache is opened, in 4 ms


class ImageSet(NamedTuple):
    """Images to decode."""

    path: str  # their folder or IDX file, as the user writes it
    mode: str
    shape: tuple[int, int, int]  # of one image: height, width, channels
    rule: str  # which of them are read how; each rule has its own cache
    places: list[str]  # folders or the IDX file, which change when images come or go
    find: Callable  # () -> keys of all images in order: names in a folder, numbers elsewhere
    locate: Callable | None  # key -> file, as the user writes it; None where one file holds all
    decode: Callable  # keys -> iterator of (uint8 [n, h, w, c], [(position among them, reason)])

    @property
    def name(self):
        """The last part of the path, even where that is written '.' or ends in '/'."""
        return os.path.basename(os.path.abspath(self.path))


def open_or_decode(image_set):
    """Return the `contents_of` a cache of the images, decoded into it if need be."""
    root = Path(os.path.normpath(os.path.join(image_set.path, '..', f'{image_set.name}.cache')))
    height, width, _ = image_set.shape
    key = f'{width}x{height}-{image_set.mode}-{short_hash(image_set.rule)}'
    with suppress(LookupError):
        return open_cache(root, key, image_set)
    before = states_of(image_set.places)  # so that what comes during the listing is noticed
    keys = image_set.find()
    watched = evenly(keys, MAX_WATCHED) if image_set.locate else []
    fingerprint = fingerprint_of(before, map(image_set.locate, watched))
    try:
        with locked(root):
            try:
                return open_cache(root, key, image_set)  # of another process that was faster
            except LookupError as error:
                reason = error
            stale = list(root.glob(f'{key}-*'))
            if stale:
                print(f'decoding the images again: {reason}')
            for old in *stale, *root.glob(f'.*{PARTIAL}'):  # the latter of a killed process
                with suppress(OSError):  # Windows keeps what a process has mapped
                    remove(old)
            folder = root / f'{key}-{fingerprint}'
            with complete(folder) as unfinished:
                unfinished.mkdir()
                with open(unfinished / PIXELS, 'wb') as file:
                    header = write_pixels(image_set, keys, file)
                header |= {'watched': watched, 'fingerprint': fingerprint}
                (unfinished / HEADER).write_text(json.dumps(header, indent=2), encoding='utf-8')
            return contents_of(folder / PIXELS, header, image_set)
    except OSError as error:
        if error.errno not in UNWRITABLE or not Path(error.filename or root).is_relative_to(root):
            raise
        print(
            f'{root} cannot be written ({os.strerror(error.errno)}): decoded images are kept in '
            'a temporary file for this run'
        )
    with tempfile.TemporaryFile() as file:
        return contents_of(file, write_pixels(image_set, keys, file), image_set)


def open_cache(root, key, image_set):
    """Return the `contents_of` the cache that fits; raise LookupError, saying why, if none does."""
    reason = f'{root} holds none'
    for folder in root.glob(f'{key}-*'):
        try:
            return open_folder(folder, image_set)
        except LookupError as error:
            reason = error
    raise LookupError(reason)


def open_folder(folder, image_set):
    """Return the `contents_of` a cache; raise LookupError if it is damaged or out of date.

    What it was made of is recognised by a sample of files, named in the header: listing all
    images of the full CelebA would take longer than everything else at the start.
    """
    try:
        header = json.loads((folder / HEADER).read_text(encoding='utf-8'))
        fits = header['shape'][1:] == list(image_set.shape) and header['rule'] == image_set.rule
        if not fits or (folder / PIXELS).stat().st_size != math.prod(header['shape']):
            raise ValueError
        contents = contents_of(folder / PIXELS, header, image_set)
        files = [image_set.locate(key) for key in header['watched']]
        fingerprint = header['fingerprint']
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise LookupError(f'{folder} is damaged, or of another version') from error
    with suppress(OSError, ValueError):  # a file is no longer there, or is none
        if fingerprint == fingerprint_of(states_of(image_set.places), files):
            return contents
    raise LookupError(f'{image_set.path} has changed')


def contents_of(file, header, image_set):
    """Return (uint8 memory map [n, h, w, c], [(path, reason)] of the skipped, sha256)."""
    skipped = [(image_set.locate(key), reason) for key, reason in header['skipped']]
    pixels = np.memmap(file, np.uint8, 'r', shape=tuple(header['shape']))
    return pixels, skipped, header['sha256']


def write_pixels(image_set, keys, file):
    """Decode the images of `keys` into `file` and return the header that describes it."""
    digest, count, skipped = hashlib.sha256(), 0, []
    bar = progress(total=len(keys), unit='image', desc=f'decoding {image_set.name}')
    with bar, closing(image_set.decode(keys)) as chunks:
        for decoded, unreadable in chunks:
            file.write(decoded)
            digest.update(decoded)
            first = count + len(skipped)
            count += len(decoded)
            skipped += [(keys[first + position], reason) for position, reason in unreadable]
            bar.update(len(decoded) + len(unreadable))
    if not count:
        key, reason = skipped[0]
        raise ValueError(
            f'none of {len(keys):,} images can be decoded; {image_set.locate(key)}: {reason}'
        )
    file.flush()
    return {
        'shape': [count, *image_set.shape],
        'mode': image_set.mode,
        'rule': image_set.rule,
        'sha256': digest.hexdigest(),
        'skipped': skipped,
    }


def fingerprint_of(states_of_places, files):
    """Return what changes with the places of images and with `files`, some of them."""
    return short_hash([states_of_places, states_of(files)])


def states_of(paths):
    """Return [(time of the last change, size)] of files and folders."""
    return [(stat.st_mtime_ns, stat.st_size) for stat in map(os.stat, paths)]


def short_hash(values):
    """Return 12 hexadecimal digits that differ for different values."""
    return hashlib.sha256(str(values).encode()).hexdigest()[:12]
