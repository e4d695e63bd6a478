"""The cache: images are decoded once, into a file beside them that is mapped into memory."""

import hashlib
import json
import math
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from facegen.data.listing import GONE, current_state, is_folder, summary_of
from facegen.data.shards import decode_to, shards_of
from facegen.files import PARTIAL, UNWRITABLE, complete, flush_to_disk, locked, mapped, remove
from facegen.screen import say

PIXELS, HEADER, STATES = 'pixels.u8', 'header.json', 'states.npy'  # the files of a cache
SECONDS_TO_LOOK = 0.8  # for changes when a cache is opened: 200,000 local files take 0.6 s
LOOKED_AT_ONCE = 256  # files, before the clock is read


class ImageSet(NamedTuple):
    """Images to decode."""

    path: str  # their folder or IDX file, as the user writes it
    mode: str
    shape: tuple[int, int, int]  # of one image: height, width, channels
    rule: str  # which of them are read how; each rule has its own cache
    find: Callable  # () -> Listing
    locate: Callable  # key -> path, as the user writes it
    decode: Callable  # keys -> iterator of Decoded

    @property
    def name(self):
        """The last part of the path, even where that is written '.' or ends in '/'."""
        return os.path.basename(os.path.abspath(self.path))


class Contents(NamedTuple):
    """What a cache holds."""

    pixels: np.ndarray  # uint8 [n, h, w, c], `files.mapped`
    skipped: list  # [(path, reason)] of what is not among them
    notes: dict  # {kind: (number of images, greatest level)}
    sha256: str


def open_or_decode(image_set, *, anew=False):
    """Return the `Contents` of a cache of the images, decoded into it if need be, or `anew`."""
    root = Path(os.path.normpath(os.path.join(image_set.path, '..', f'{image_set.name}.cache')))
    height, width, _ = image_set.shape
    key = f'{width}x{height}-{image_set.mode}-{short_hash(image_set.rule)}'
    if not anew:
        with suppress(LookupError):
            return open_cache(root, key, image_set)
    listing = image_set.find()
    if not listing.keys:
        raise no_images(image_set, listing.left_out)
    folder = root / f'{key}-{hash_of_files(listing)}'
    place = folder.with_name(f'.{folder.name}.shards')
    shards = None if anew else shards_of(image_set, listing.keys, place)
    try:
        if shards:
            shards.decode(is_over=(folder / HEADER).exists)
        with locked(root):
            reason = 'as you ask'
            try:
                if not anew:
                    return open_cache(root, key, image_set)  # of another process that was faster
            except LookupError as error:
                reason = error
            stale = list(root.glob(f'{key}-*'))
            if stale:
                say(f'decoding the images again: {reason}')
            others = set(root.glob(f'.{key}-*.shards')) - {shards and place}
            for old in *stale, *others, *root.glob(f'.*{PARTIAL}'):  # the last of a killed process
                with suppress(OSError):  # Windows keeps what a process has mapped
                    remove(old)
            if shards:  # some are missing where a cache that has been made is damaged
                shards.decode()
            header = write_cache(folder, image_set, listing, shards)
            with suppress(OSError):
                remove(place)
            return contents_of(folder / PIXELS, header, image_set)
    except OSError as error:
        if error.errno not in UNWRITABLE or not Path(error.filename or root).is_relative_to(root):
            raise
        print(
            f'{root} cannot be written ({os.strerror(error.errno)}): decoded images are kept in '
            'a temporary file for this run'
        )
    if shards and shards.missing():
        shards = None
    with tempfile.TemporaryFile() as file:
        return contents_of(file, write_pixels(image_set, listing, file, shards), image_set)


def write_cache(folder, image_set, listing, shards):
    """Write all files of a cache, from its `Shards` where there are some; return its header."""
    with complete(folder) as unfinished:
        unfinished.mkdir()
        with open(unfinished / PIXELS, 'wb') as file:
            header = write_pixels(image_set, listing, file, shards)
        (unfinished / HEADER).write_text(json.dumps(header), encoding='utf-8')
        np.save(unfinished / STATES, listing.states)
        for name in (PIXELS, HEADER, STATES):
            flush_to_disk(unfinished / name)
    return header


def open_cache(root, key, image_set):
    """Return the `Contents` of the cache that fits; raise LookupError, saying why, if none does."""
    reason = f'{root} holds none'
    with suppress(OSError):  # of a name that is too long
        for folder in root.glob(f'{key}-*'):
            try:
                return open_folder(folder, image_set)
            except LookupError as error:
                reason = error
    raise LookupError(reason)


def open_folder(folder, image_set):
    """Return the `Contents` of a cache; raise LookupError if it is damaged or out of date."""
    try:
        header = json.loads((folder / HEADER).read_text(encoding='utf-8'))
        fits = header['shape'][1:] == list(image_set.shape) and header['rule'] == image_set.rule
        if not fits or (folder / PIXELS).stat().st_size != math.prod(header['shape']):
            raise ValueError
        contents = contents_of(folder / PIXELS, header, image_set)
        states = np.load(folder / STATES, allow_pickle=False)
        if states.shape != (len(header['watched']), len(GONE)):
            raise ValueError
        changed = first_change(image_set, header['watched'], states)
    except (OSError, ValueError, LookupError, TypeError, EOFError) as error:
        raise LookupError(f'{folder} is damaged, or of another version') from error
    if changed is not None:
        # A folder changes too when a file manager leaves a note in it
        now = image_set.find() if is_folder(changed) else None
        if not now or not are_same_files(now, header['watched'], states):
            raise LookupError(f'{image_set.path} has changed')
        header['left_out'] = now.left_out
        contents = contents_of(folder / PIXELS, header, image_set)
    return contents


def first_change(image_set, watched, states):
    """Return the first of the `watched` keys that is not in its state; None if none is found.

    Folders come first, then the files in an even spread, for SECONDS_TO_LOOK: it would take minutes to
    look at all where each is asked for over a network.
    """
    count, first = len(watched), num_folders(watched)
    stride = math.ceil((count - first) / LOOKED_AT_ONCE)
    parts = [slice(first), *(slice(first + i, count, stride) for i in range(stride))]
    looked, deadline = 0, time.monotonic() + SECONDS_TO_LOOK
    for part in parts:
        now = np.array(list(map(current_state, map(image_set.locate, watched[part]))), np.int64)
        changed = (now.reshape(-1, len(GONE)) != states[part]).any(1)
        if changed.any():
            return watched[part][changed.argmax()]
        looked += len(now)
        if time.monotonic() > deadline and looked < count:
            print(
                f'{image_set.path}: {looked:,} of {count:,} files were looked at for changes, '
                f'in {SECONDS_TO_LOOK} s; after a change to others, decode anew'
            )
            break
    return None


def are_same_files(listing, watched, states):
    """Tell whether what a `Listing` watches are the same files in the same states, whatever folders are in."""
    now, before = num_folders(listing.watched), num_folders(watched)
    return listing.watched[now:] == watched[before:] and np.array_equal(
        listing.states[now:], states[before:]
    )


def hash_of_files(listing):
    """Return 12 hexadecimal digits that differ for other files, or other states, of a `Listing`."""
    first = num_folders(listing.watched)
    digest = hashlib.sha256(listing.states[first:].tobytes())
    for key in listing.watched[first:]:
        digest.update(f'{key}\0'.encode(errors='backslashreplace'))
    return digest.hexdigest()[:12]


def num_folders(watched):
    """Return how many of what is watched are folders."""
    return sum(map(is_folder, watched))


def contents_of(file, header, image_set):
    """Return the `Contents` of a file of pixels with its header."""
    skipped = sorted(map(tuple, header['skipped'] + header['left_out']))
    skipped = [(image_set.locate(key), reason) for key, reason in skipped]
    pixels = mapped(file, tuple(header['shape']))
    notes = {kind: tuple(numbers) for kind, numbers in header['notes'].items()}
    return Contents(pixels, skipped, notes, header['sha256'])


def write_pixels(image_set, listing, file, shards):
    """Decode the images of a `Listing` into a file, or join their `Shards`; return its header."""
    hashed = HashedFile(file)
    images = shards.write_to(hashed) if shards else decode_to(hashed, image_set, listing.keys)
    if not images.count:
        raise no_images(image_set, images.skipped + listing.left_out)
    file.flush()
    return {
        'shape': [images.count, *image_set.shape],
        'mode': image_set.mode,
        'rule': image_set.rule,
        'sha256': hashed.digest.hexdigest(),
        'skipped': images.skipped,
        'left_out': listing.left_out,
        'notes': images.notes,
        'watched': listing.watched,
    }


class HashedFile:
    """A file that is written to, and the SHA-256 digest of what was."""

    def __init__(self, file):
        """Begin with nothing."""
        self.file, self.digest = file, hashlib.sha256()

    def write(self, content):
        """Append bytes."""
        self.file.write(content)
        self.digest.update(content)


def no_images(image_set, left_out):
    """Return the error of a set without a single image, which says what there is instead."""
    left_out = [(image_set.locate(key), reason) for key, reason in left_out]
    about = f'; {summary_of(left_out, len(left_out))}' if left_out else ''
    return ValueError(f'{image_set.path} holds no images{about}; choose another folder')


def short_hash(values):
    """Return 12 hexadecimal digits that differ for different values."""
    return hashlib.sha256(str(values).encode()).hexdigest()[:12]
