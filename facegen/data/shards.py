"""Decoding into a file or, of a large set, first into shards, by all processes and machines that want it.

Each takes a shard that is missing and that no other is decoding, which a lock says. So several machines
with a shared folder need a part of the time, and whatever is killed loses one shard. Whoever comes first
joins them.
"""

import itertools
import json
import shutil
import time
from contextlib import closing
from typing import NamedTuple

from facegen.files import acquired, complete, to_json, write_complete
from facegen.screen import progress

SHARD = 1 << 16  # files; they take 10 s or so
LOOK_EVERY = 1.0  # seconds, at what others decode
COPIED_AT_ONCE = 1 << 24  # bytes
PIXELS, ABOUT = 'pixels.u8', 'about.json'  # the files of a shard; the second says that it is whole


class Images(NamedTuple):
    """What files turned out to hold."""

    count: int  # of the images
    skipped: list  # (key, reason) of each file without one
    notes: dict  # {kind: (number of images, greatest level)}


def decode_to(file, image_set, keys, part=''):
    """Decode the images of `keys`, write their pixels to a file, and return the `Images`."""
    count, skipped, notes = 0, [], {}
    bar = progress(total=len(keys), unit='image', desc=f'decoding {image_set.name}{part}')
    with bar, closing(image_set.decode(keys)) as chunks:
        for decoded in chunks:
            file.write(decoded.images)
            first = count + len(skipped)
            count += len(decoded.images)
            skipped += [(keys[first + position], reason) for position, reason in decoded.skipped]
            for kind, level in decoded.notes:
                number, greatest = notes.get(kind, (0, 0))
                notes[kind] = number + 1, max(greatest, level)
            bar.update(len(decoded.images) + len(decoded.skipped))
    return Images(count, skipped, notes)


def joined(parts):
    """Return the `Images` of all parts."""
    notes = {}
    for kind, (number, level) in itertools.chain(*(part.notes.items() for part in parts)):
        before, greatest = notes.get(kind, (0, 0))
        notes[kind] = before + number, max(greatest, level)
    skipped = list(itertools.chain(*(part.skipped for part in parts)))
    return Images(sum(part.count for part in parts), skipped, notes)


def shards_of(image_set, keys, folder):
    """Return the `Shards` of a large set of files, which are to lie in `folder`; None of any other set."""
    is_large = isinstance(keys, list) and len(keys) > SHARD  # an IDX file has a range of keys
    return Shards(image_set, keys, folder) if is_large else None


class Shards:
    """The shards of a set, each in a folder of its own."""

    def __init__(self, image_set, keys, folder):
        """Divide the keys of the images; nothing is read or written yet."""
        self.image_set, self.folder = image_set, folder
        parts = [keys[first : first + SHARD] for first in range(0, len(keys), SHARD)]
        self.keys = {folder / str(number): part for number, part in enumerate(parts, start=1)}

    def decode(self, is_over):
        """Decode what is missing, beside others that do; return when nothing is, or once `is_over()`."""
        says = True
        while (missing := [place for place in self.keys if not is_whole(place)]) and not is_over():
            if any(self.decode_one(place) for place in missing):
                continue
            if says:
                print(f'waiting for other processes that decode {self.image_set.path}')
                says = False
            time.sleep(LOOK_EVERY)

    def decode_one(self, place):
        """Decode a shard, unless it is whole; return False where another process is at it."""
        place.mkdir(parents=True, exist_ok=True)
        lock = acquired(place)
        if lock is None:
            return False
        try:
            if not is_whole(place):
                part = f', part {place.name} of {len(self.keys)}'
                with complete(place / PIXELS) as unfinished, open(unfinished, 'wb') as file:
                    images = decode_to(file, self.image_set, self.keys[place], part)
                write_complete(place / ABOUT, to_json(images._asdict()).encode())
        finally:
            lock.release()
        return True

    def write_to(self, file):
        """Write the pixels of all shards to a file, in order, and return their `Images`."""
        parts = []
        for place in self.keys:
            with open(place / PIXELS, 'rb') as pixels:
                shutil.copyfileobj(pixels, file, COPIED_AT_ONCE)
            parts.append(Images(**json.loads((place / ABOUT).read_text(encoding='utf-8'))))
        return joined(parts)


def is_whole(place):
    """Tell whether the shard in a folder has been decoded."""
    return (place / ABOUT).exists()
