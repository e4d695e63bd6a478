"""IDX files, in which MNIST is published: a short header, then all pixels."""

import gzip
import math
import struct
import zlib
from contextlib import contextmanager

import numpy as np
from PIL import Image

from facegen.data.decode import Decoded
from facegen.data.download import GZIP_MAGIC

IDX_HEADER = struct.Struct('>4I')  # magic number, images, rows, columns
IDX_MAGIC = 0x00000803  # unsigned bytes in three dimensions
LABEL_HEADER = struct.Struct('>2I')  # magic number, labels
LABEL_MAGIC = 0x00000801  # unsigned bytes in one dimension
LARGEST_SIDE = 1024  # pixels; a file that claims more is damaged, or made to fill the memory
AT_ONCE = 64  # images


def decode_idx(path, width, height, mode):
    """Yield `Decoded` images of an IDX file, resized where it has another size."""
    count, rows, columns = idx_header(path)
    with open_idx(path) as file:
        file.seek(IDX_HEADER.size)
        for first in range(0, count, AT_ONCE):
            size = [min(AT_ONCE, count - first), rows, columns]
            pixels = np.frombuffer(read_exactly(file, math.prod(size)), np.uint8).reshape(size)
            if (columns, rows, mode) == (width, height, 'L'):
                yield Decoded(pixels)
                continue
            images = map(Image.fromarray, pixels)
            if (columns, rows) != (width, height):
                images = (image.resize((width, height), Image.BILINEAR) for image in images)
            yield Decoded(np.array([np.array(image.convert(mode)) for image in images]))
        if file.read(1):
            raise ValueError(f'{path} is longer than its header says; get it again')


def idx_header(path):
    """Return (number of images, rows, columns) of an IDX file of images, packed or not."""
    with open_idx(path) as file:
        magic, *size = IDX_HEADER.unpack(read_exactly(file, IDX_HEADER.size))
    if magic != IDX_MAGIC or 0 in size:
        raise ValueError(
            f'{path} is no IDX file of images: expected it to begin with {IDX_MAGIC:#010x} and '
            f'three sizes above 0, found {magic:#010x} and {size}'
        )
    if max(size[1:]) > LARGEST_SIDE:
        raise ValueError(
            f'{path} is refused: its images are {size[2]}x{size[1]}; expected sides of up to '
            f'{LARGEST_SIDE} pixels'
        )
    return size


def labels_of(path):
    """Return the labels of an IDX file of labels, packed or not, as uint8 [n]."""
    with open_idx(path) as file:
        magic, count = LABEL_HEADER.unpack(read_exactly(file, LABEL_HEADER.size))
        if magic != LABEL_MAGIC:
            raise ValueError(
                f'{path} is no IDX file of labels: expected it to begin with {LABEL_MAGIC:#010x}, '
                f'found {magic:#010x}'
            )
        return np.frombuffer(read_exactly(file, count), np.uint8)


@contextmanager
def open_idx(path):
    """Yield the bytes of an IDX file, unpacked; damage becomes a ValueError."""
    with open(path, 'rb') as file:
        packed = file.read(2) == GZIP_MAGIC
    try:
        with gzip.open(path) if packed else open(path, 'rb') as file:
            yield file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f'{path} is damaged: {error}; get it again') from error


def read_exactly(file, size):
    """Return the next `size` bytes; raise EOFError if there are fewer."""
    data = file.read(size)
    if len(data) < size:
        raise EOFError(
            f'it is cut short, {size - len(data):,} of the next {size:,} bytes are missing'
        )
    return data
