"""Data sets of images, which serve shuffled batches."""

import os
from functools import partial
from numbers import Integral

import numpy as np

from facegen.data.cache import ImageSet, open_or_decode, short_hash
from facegen.data.decode import CROP_VERSION, decode_files, is_image, require_images
from facegen.data.idx import decode_idx, idx_header
from facegen.data.sources import DATASETS, choose, download_extract
from facegen.images import CHANNELS, to_data_range


class Dataset:
    """A set of images, decoded once into a memory map, that serves shuffled float32 batches.

    Attributes:
        shape: (number of images, height, width, channels).
        image_mode: 'L' or 'RGB'.
        pixels: uint8 memory map of that shape, 0 to 255.
        skipped: [(path, reason)] of the images that cannot be decoded; `shape` does not count
            them.
        sha256: Of the pixels.

    """

    def __init__(
        self,
        dataset_name,
        data_files=None,
        *,
        data_path='./data',
        data='auto',
        width=28,
        height=28,
        seed=0,
        shuffle=True,
    ):
        """Open the decoded images, decoding them into a cache beside the data if need be.

        Args:
            dataset_name: 'mnist', 'celeba', or 'folder' for images of one's own (colour, the
                largest central square of each).
            data_files: A list of image files, whose order is kept; or the path of a folder of
                images or of an IDX file, as `download_extract` returns it; or None, which calls
                `download_extract(dataset_name, data_path, data=data)`. A leading `~` is the home
                folder.
            data_path: Folder of the data sets, used where `data_files` is None.
            data: 'auto', 'sample' or 'full', used where `data_files` is None.
            width: Of the decoded images, in pixels.
            height: Of the decoded images, in pixels.
            seed: With the number of the epoch, decides the order of the images.
            shuffle: False keeps the order of the files in every epoch.

        Raises:
            ValueError: An unknown name, no images, none that can be decoded, or a bad IDX file.
            OSError: A file that is not there or cannot be read.

        """
        choose(DATASETS, dataset_name, 'data set')
        require_whole(width=width, height=height, least=1)
        require_whole(seed=seed, least=0)
        if data_files is None:
            if dataset_name == 'folder':
                raise ValueError("the data set 'folder' needs data_files, a folder of images")
            data_files = download_extract(dataset_name, data_path, data=data)
        image_set = find_image_set(DATASETS[dataset_name], data_files, width, height)
        self.image_mode = DATASETS[dataset_name].mode
        self.pixels, self.skipped, self.sha256 = open_or_decode(image_set)
        self.shape = self.pixels.shape
        self.seed = seed
        self.shuffle = shuffle
        self._next_epoch = 0
        if self.skipped:
            named = ', '.join(f'{path} ({reason})' for path, reason in self.skipped[:5])
            more = ', …' if len(self.skipped) > 5 else ''
            count = len(self.pixels) + len(self.skipped)
            print(f'skipped {len(self.skipped):,} unreadable of {count:,}: {named}{more}')

    @property
    def identity(self):
        """What the images and their order depend on, as a dictionary."""
        return {'sha256': self.sha256, 'seed': self.seed, 'shuffle': self.shuffle}

    def get_batches(self, batch_size, *, epoch=None, start=0):
        """Return a generator of float32 [batch_size, height, width, channels] in [-0.5, 0.5].

        Each image comes once an epoch, except the last ones, which do not fill a batch.

        Args:
            batch_size: Images in a batch.
            epoch: Which epoch's order, from 0; None takes the next one with every call.
            start: First batch to give, so that a run can continue anywhere, up to the number of
                batches, which gives none.

        """
        require_whole(batch_size=batch_size, least=1)
        require_whole(start=start, least=0)
        if batch_size > len(self.pixels):
            raise ValueError(
                f'batch_size {batch_size} is larger than the data set of {len(self.pixels)} '
                'images; choose a smaller one or add images'
            )
        num_batches = len(self.pixels) // batch_size
        if start > num_batches:
            raise ValueError(
                f'start is {start}; an epoch has {num_batches} batches; choose no more'
            )
        if epoch is None:
            epoch = self._next_epoch
            self._next_epoch += 1
        require_whole(epoch=epoch, least=0)
        order = np.arange(len(self.pixels))
        if self.shuffle:
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self.pixels))
        firsts = range(start * batch_size, len(order) - batch_size + 1, batch_size)
        pixels = np.asarray(self.pixels)  # arithmetic on parts of a memory map is a quarter slower
        return (
            to_data_range(pixels.take(order[first : first + batch_size], axis=0))
            for first in firsts
        )


def require_whole(*, least, **named):
    """Raise ValueError unless all `named` numbers are whole, from `least` up."""
    for name, value in named.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
            raise ValueError(f'{name} is {value!r}; choose a whole number from {least} up')


def find_image_set(source, data_files, width, height):
    """Return the `ImageSet` of a list of files, of a folder or of an IDX file."""
    shape = height, width, CHANNELS[source.mode]
    rule = f'{source.read.__name__} {CROP_VERSION}'
    read = partial(source.read, width=width, height=height, mode=source.mode)
    if not isinstance(data_files, (str, os.PathLike)):
        files = [os.path.expanduser(file) for file in data_files]
        if not files:
            raise ValueError(
                'data_files is an empty list, as from a pattern that matches nothing; leave '
                'data_files out to use the data set that download_extract finds'
            )
        path = folder_of(files[0])
        names = [os.path.abspath(file).removeprefix(os.path.abspath(path)) for file in files]
        rule += f', list {short_hash(names)}'
        places, locate = sorted(set(map(folder_of, files))), files.__getitem__
        find = partial(range, len(files))
    else:
        path = os.path.expanduser(data_files)
        wanted = 'expected a folder, an IDX file or a list of files'
        if not os.path.exists(path):
            raise FileNotFoundError(
                f'{path} is not there; {wanted}; for a pattern use glob.glob(...)'
            )
        if not os.path.isdir(path):
            if is_image(path):
                raise ValueError(f'{path} is a single image; {wanted}')
            return ImageSet(
                path,
                source.mode,
                shape,
                'idx',
                places=[path],
                find=lambda: range(idx_header(path)[0]),
                locate=None,
                decode=lambda _: decode_idx(path, width, height, source.mode),
            )
        places, locate = [path], partial(os.path.join, path)
        find = partial(require_images, path)
    decode = partial(decode_files, locate=locate, read=read)
    return ImageSet(path, source.mode, shape, rule, places, find, locate, decode)


def folder_of(file):
    """Return the folder of a file, as the user writes it."""
    return os.path.dirname(file) or '.'
