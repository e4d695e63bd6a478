"""Decoding into a file or, of a large set, first into shards.

Each process that wants the set decodes a shard that is missing and not locked, then the next. So machines
that share a folder divide the time, and a process that is killed loses only the shard it was decoding. The
first that finds all shards complete joins them.
"""

import itertools
import json
import math
import shutil
import time
from contextlib import closing
from typing import NamedTuple

from facegen.data.decode import size_of
from facegen.files import acquired, complete, lock_files, to_json, write_complete
from facegen.screen import progress

SHARD = 1 << 16  # files
LOOK_EVERY = 1.0  # seconds between two looks for a shard to decode
COPIED_AT_ONCE = 1 << 24  # bytes


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
                add_note(notes, kind, 1, level)
            bar.update(len(decoded.images) + len(decoded.skipped))
    return Images(count, skipped, notes)


def add_note(notes, kind, number, level):
    """Note so many more images of a kind, of a level up to `level`."""
    before, greatest = notes.get(kind, (0, 0))
    notes[kind] = before + number, max(greatest, level)


def joined(parts):
    """Return the `Images` of all parts."""
    notes = {}
    for kind, (number, level) in itertools.chain(*(part.notes.items() for part in parts)):
        add_note(notes, kind, number, level)
    skipped = list(itertools.chain(*(part.skipped for part in parts)))
    return Images(sum(part.count for part in parts), skipped, notes)


def shards_of(image_set, keys, folder):
    """Return the `Shards` of a large set of files, which are to lie in `folder`; None of any other set.

    None too where the disk has no room for all pixels twice, as shards and as one file.
    """
    if not isinstance(keys, list) or len(keys) <= SHARD:  # an IDX file has a range of keys
        return None
    there = sum(map(size_of, folder.glob('*.u8')))
    needed = 2 * len(keys) * math.prod(image_set.shape) - there
    place = next(path for path in folder.parents if path.exists())
    return Shards(image_set, keys, folder) if shutil.disk_usage(place).free > needed else None


class Shards:
    """The shards of a set: files `1.u8`, `2.u8`… of pixels, and `1.json`… of what they hold."""

    def __init__(self, image_set, keys, folder):
        """Divide the keys of the images; nothing is read or written yet."""
        self.image_set, self.folder = image_set, folder
        parts = [keys[first : first + SHARD] for first in range(0, len(keys), SHARD)]
        self.keys = dict(enumerate(parts, start=1))

    def missing(self):
        """Return the numbers of those that nobody has decoded yet."""
        return [number for number in self.keys if not self.images(number)]

    def images(self, number):
        """Return the `Images` of a shard; None if it is missing, damaged, or of other files."""
        try:
            images = Images(**json.loads(self.about(number).read_text(encoding='utf-8')))
            size = self.pixels(number).stat().st_size
        except (FileNotFoundError, ValueError, TypeError):
            return None
        num_files = images.count + len(images.skipped)
        is_whole = size == images.count * math.prod(self.image_set.shape)
        return images if is_whole and num_files == len(self.keys[number]) else None

    def pixels(self, number):
        """Return the path of the pixels of a shard."""
        return self.folder / f'{number}.u8'

    def about(self, number):
        """Return the path of what a shard holds, which is written when its pixels are."""
        return self.folder / f'{number}.json'

    def decode(self, is_over=lambda: False):
        """Decode what is missing, beside others that do; return when nothing is, or once `is_over()`."""
        has_said = False
        while (missing := self.missing()) and not is_over():
            try:
                if any(self.decode_one(number) for number in missing):
                    continue
            except FileNotFoundError:
                if self.folder.exists():
                    raise
                continue  # whoever has joined them, or found other images, has removed all
            if not has_said:
                print(
                    f'waiting for other processes that decode {self.image_set.path}{self.advice()}'
                )
                has_said = True
            time.sleep(LOOK_EVERY)

    def advice(self):
        """Return what to do where locks are files, which a machine that was switched off leaves."""
        files = lock_files(self.folder)
        return f'; if there are none on any machine, delete {files}' if files else ''

    def decode_one(self, number):
        """Decode a shard unless it is there; return False while another process is at it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = acquired(self.folder, part=number)
        if lock is None:
            return False
        try:
            if not self.images(number):
                part = f', part {number} of {len(self.keys)}'
                with complete(self.pixels(number)) as unfinished, open(unfinished, 'wb') as file:
                    images = decode_to(file, self.image_set, self.keys[number], part)
                write_complete(self.about(number), to_json(images._asdict()).encode())
        finally:
            lock.release()
        return True

    def write_to(self, file):
        """Write the pixels of all shards to a file, in order, and return their `Images`."""
        for number in self.keys:
            with open(self.pixels(number), 'rb') as pixels:
                shutil.copyfileobj(pixels, file, COPIED_AT_ONCE)
        return joined([self.images(number) for number in self.keys])
