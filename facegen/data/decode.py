"""Image files become pixels: the crop of a face, and many files at once."""

import errno
import math
import os
import warnings
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

import numpy as np
from PIL import Image, ImageOps

from facegen.data.processes import map_in_processes
from facegen.machine import cpu_count

FACE_SIZE = 108  # side of the central square that holds the face in the aligned 178x218 images
CROP_VERSION = 1  # of what get_image and get_square do; another one rebuilds the caches
SUFFIXES = '.jpg', '.jpeg', '.png'
AT_ONCE = 64  # images decoded by one process
MANY_BYTES = 25 << 20  # of files, 3,900 faces: processes save more time than they need to start
MEASURED = 1000  # files, whose sizes tell how much there is to do
MAX_PROCESSES = 8  # each needs 35 MB
OF_THE_FILE = None, errno.EINVAL  # a damaged image makes Pillow seek impossible positions


def get_image(image_path, width, height, mode):
    """Return an image as uint8 [height, width] for mode 'L', [height, width, 3] for 'RGB'.

    An image of another size is cropped to its central 108x108 pixels, which hold the face of an
    aligned CelebA image, and resized with Pillow's bilinear filter.
    """
    with Image.open(image_path) as image:
        cropped = image
        if image.size != (width, height):
            cropped = crop_centre(image, FACE_SIZE).resize((width, height), Image.BILINEAR)
        return np.array(cropped.convert(mode))


def get_square(image_path, width, height, mode):
    """Return an image like `get_image`, of its largest central square, turned upright.

    16 bits of grey become 8. Raises ValueError for 32 bits, whose black and white are unknown.
    """
    with Image.open(image_path) as image:
        if image.mode in ('I', 'F'):
            raise ValueError('32-bit greyscale is not supported; save it with 8 or 16 bits')
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith('I;16'):
            upright = Image.fromarray(np.rint(np.asarray(upright) / 257).astype(np.uint8))
        square = crop_centre(upright.convert(mode), min(upright.size))
        return np.array(square.resize((width, height), Image.BILINEAR))


def get_batch(image_files, width, height, mode):
    """Return the images as float32 [num_files, height, width, channels], 0 to 255."""
    images = np.array([get_image(file, width, height, mode) for file in image_files], np.float32)
    return images if images.ndim == 4 else images[..., np.newaxis]


def crop_centre(image, side):
    """Return the central square of a Pillow image; what lies outside the image is black."""
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def is_image(path):
    """Return whether `path` is named like an image, which a system's `._name.jpg` is not."""
    name = os.path.basename(path).lower()
    return name.endswith(SUFFIXES) and not name.startswith('.')


def image_names(folder):
    """Return the sorted names of the images in `folder`; none where there is no such folder."""
    if os.path.isfile(folder):
        raise NotADirectoryError(f'{folder} is a file; expected a folder: move it away')
    if not os.path.isdir(folder):
        return []
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if is_image(entry.name) and entry.is_file())


def require_images(folder):
    """Return the sorted names of the images in `folder`; raise ValueError where it has none."""
    names = image_names(folder)
    if not names:
        raise ValueError(f'{folder} holds no images ({", ".join(SUFFIXES)}); choose another folder')
    return names


def decode_files(keys, locate, read):
    """Yield what `read` makes of the files of `keys`, in order, a few of them ahead.

    `locate` maps a key to a file. Yields pairs of uint8 images [n, ...] and [(position among them,
    reason)] of the files that cannot be decoded. Where there is much to do, processes share it, since
    threads would wait for the interpreter's lock most of the time.
    """
    decode = partial(decode_some, read=read)
    workers = min(cpu_count(), MAX_PROCESSES)
    mean_size = np.mean([os.path.getsize(locate(key)) for key in evenly(keys, MEASURED)])
    alone = workers == 1 or mean_size * len(keys) < MANY_BYTES
    size = AT_ONCE if alone else min(AT_ONCE, math.ceil(len(keys) / (4 * workers)))
    chunks = [
        [locate(key) for key in keys[first : first + size]] for first in range(0, len(keys), size)
    ]
    yield from map(decode, chunks) if alone else map_in_processes(decode, chunks, workers)


def evenly(keys, count):
    """Return up to `count` of the keys, evenly spread."""
    chosen = np.linspace(0, len(keys) - 1, min(len(keys), count)).astype(int)
    return [keys[i] for i in chosen]


def decode_some(files, read):
    """Return uint8 images [n, ...] of the files, and [(position, reason)] of those it cannot decode.

    Raises OSError, with the file, where the system fails rather than the file, and MemoryError.
    """
    images, skipped = [], []
    with quiet_libraries():
        for position, file in enumerate(files):
            try:
                images.append(read(file))
            except MemoryError:
                raise
            except Exception as error:  # whatever Pillow raises for a damaged file
                if isinstance(error, OSError) and error.errno not in OF_THE_FILE:
                    raise OSError(error.errno, error.strerror, file) from error
                skipped.append((position, reason_of(error, file)))
    return np.array(images, np.uint8), skipped


@contextmanager
def quiet_libraries():
    """Inside, neither warnings nor what libraries write to stderr is seen, such as libtiff's.

    They only repeat what Pillow raises, or are about files that it can read.
    """
    with warnings.catch_warnings(), ExitStack() as stack:
        warnings.simplefilter('ignore')
        with suppress(OSError):  # closed, as for a service
            stderr = os.dup(2)
            stack.callback(os.close, stderr)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            stack.callback(os.close, nowhere)
            os.dup2(nowhere, 2)
            stack.callback(os.dup2, stderr, 2)
        yield


def reason_of(error, file):
    """Return one line that says why a file is skipped, without its name, which users write differently."""
    text = ' '.join(str(error).replace(f' {file!r}', '').split()) or type(error).__name__
    return text if isinstance(error, (OSError, ValueError, SyntaxError)) else f'damaged: {text}'
