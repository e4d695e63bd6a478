"""Data sets of images, which serve shuffled batches."""

import math
import operator
import os
from functools import partial
from numbers import Integral, Real

import numpy as np
from PIL import ImageColor

from facegen.data.cache import ImageSet, open_or_decode, short_hash
from facegen.data.crop import (
    BACKGROUND,
    CLIPPED,
    CROP_VERSION,
    DARK,
    DEEP,
    FACE_SIZE,
    SEVERAL,
    TRANSPARENT,
    WHITE_OF_16_BITS,
    check_crop,
    default_crop,
    get_square,
)
from facegen.data.decode import decode_files
from facegen.data.idx import decode_idx, idx_header
from facegen.data.listing import (
    Listing,
    current_state,
    is_image,
    list_files,
    list_images,
    summary_of,
)
from facegen.data.sources import DATASETS, choose, download_extract
from facegen.files import rows_of
from facegen.images import CHANNELS, to_data_range
from facegen.screen import say


class Dataset:
    """A set of images, decoded once into a memory map, that serves shuffled float32 batches.

    Attributes:
        shape: (number of images, height, width, channels).
        image_mode: 'L' or 'RGB'.
        pixels: uint8 memory map of that shape, 0 to 255.
        skipped: [(path, reason)] of the images that cannot be decoded; `shape` does not count
            them.
        sha256: Of the pixels.
        crop: Of 'celeba', the side of the central square that is used; None of others.

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
        background=BACKGROUND,
        white_level=None,
        crop=None,
        decode_anew=False,
    ):
        """Open the decoded images, decoding them into a cache beside the data if need be.

        Args:
            dataset_name: 'mnist', 'celeba', or for images of one's own 'folder' (colour, the
                largest central square of each) or 'idx' (grey, of an IDX file).
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
            background: Of 'folder': the colour seen through transparent pixels, as Pillow names it.
            white_level: Of 'folder': what is white in images of 16 or 32 bits, which may use less than
                they hold; None for 65,535.
            crop: Of 'celeba': the side of the central square that is used, 1 to 178 pixels; None for
                108 or, of images of more than 32 pixels, 140 (`crop.default_crop`).
            decode_anew: Whether to make the cache again, even where no change is seen.

        Raises:
            ValueError: An unknown name, a bad option, no images, none that can be decoded, or a bad
                IDX file.
            OSError: A file that is not there or cannot be read.

        """
        choose(DATASETS, dataset_name, 'data set')
        require_whole(width=width, height=height, least=1)
        require_whole(seed=seed, least=0)
        if dataset_name == 'celeba' and crop is None:
            crop = default_crop(width, height)
        options = reading_options(dataset_name, background, white_level, crop)
        if data_files is None:
            if DATASETS[dataset_name].sample is None:
                raise ValueError(
                    f'the data set {dataset_name!r} needs data_files, the path of your images'
                )
            data_files = download_extract(dataset_name, data_path, data=data)
        image_set = find_image_set(DATASETS[dataset_name], data_files, width, height, options)
        self.image_mode = DATASETS[dataset_name].mode
        contents = open_or_decode(image_set, anew=decode_anew)
        self.pixels, self.skipped, notes, self.sha256 = contents
        self.shape = self.pixels.shape
        self.crop = crop
        self.seed = seed
        self.shuffle = shuffle
        self._next_epoch = 0
        if self.skipped:
            say(summary_of(self.skipped, len(self.pixels) + len(self.skipped)))
        if 'crop' in options:
            say(f'{dataset_name}: the central {crop}x{crop} pixels of each image (crop)')
        for line in lines_about(notes, background, white_level):
            say(line)

    @property
    def identity(self):
        """What the images and their order depend on, as a dictionary."""
        identity = {'sha256': self.sha256, 'seed': self.seed, 'shuffle': self.shuffle}
        return identity | ({'crop': self.crop} if self.crop else {})

    def get_batches(self, batch_size, *, epoch=None, start=0, rows=slice(None)):
        """Return a generator of float32 [batch_size, height, width, channels] in [-0.5, 0.5].

        Each image comes once an epoch, except the last ones, which do not fill a batch.

        Args:
            batch_size: Images in a batch.
            epoch: Which epoch's order, from 0; None takes the next one with every call.
            start: First batch to give, so that a run can continue anywhere, up to the number of
                batches, which gives none.
            rows: Which images of each batch to give, as a slice: the part of one of several processes.

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
        end = num_batches * batch_size
        return self._batches(order[start * batch_size : end].reshape(-1, batch_size)[:, rows])

    def _batches(self, chosen):
        """Yield the batches of images whose numbers are the rows of `chosen`."""
        for numbers in chosen:
            yield to_data_range(rows_of(self.pixels, numbers))


def require_whole(*, least, **named):
    """Raise ValueError unless all `named` numbers are whole, from `least` up."""
    for name, value in named.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
            raise ValueError(f'{name} is {value!r}; choose a whole number from {least} up')


def reading_options(dataset_name, background, white_level, crop):
    """Return what `DataSource.read` of a data set is told; raise ValueError for what it is not."""
    if dataset_name == 'celeba':
        check_crop(crop)
    elif crop is not None:
        raise ValueError('crop is for celeba; other images are not cropped but to a square')
    ImageColor.getrgb(str(background))  # a ValueError for what is no colour
    if white_level is not None and not (
        isinstance(white_level, Real) and 0 < white_level < math.inf
    ):
        raise ValueError(f'white_level is {white_level!r}; choose a number above 0')
    options = {'background': background, 'white_level': white_level}
    if dataset_name == 'folder':
        return options
    if options != {'background': BACKGROUND, 'white_level': None}:
        raise ValueError('background and white_level are for a folder of images')
    # Nothing for 108, so that caches that were made before there was a choice stay valid
    return {} if crop in (None, FACE_SIZE) else {'crop': crop}


def lines_about(notes, background, white_level):
    """Yield what users should know about images that are used; `notes` are {kind: (number, level)}."""
    if TRANSPARENT in notes:
        number, _ = notes[TRANSPARENT]
        yield f'{number:,} of the images are transparent in part, on {background} (background)'
    if SEVERAL in notes:
        number, _ = notes[SEVERAL]
        yield f'{number:,} of the files hold several images, of which the first is used'
    if DARK in notes and not white_level:
        number, level = notes[DARK]
        likely = 2 ** math.ceil(math.log2(level + 1)) - 1
        yield (
            f'{number:,} of {notes[DEEP][0]:,} images of 16 bits use levels up to {level:,.0f} of '
            f'{WHITE_OF_16_BITS:,}, so they are dark; if {likely:,} is white, say so by white_level'
        )
    if CLIPPED in notes:
        number, level = notes[CLIPPED]
        yield f'{number:,} of the images use levels up to {level:,.0f}: all above {white_level:g} is white'


def find_image_set(source, data_files, width, height, options):
    """Return the `ImageSet` of a list of files, of a folder or of an IDX file."""
    shape = height, width, CHANNELS[source.mode]
    rule = ', '.join([f'{source.read.__name__} {CROP_VERSION}', *map(str, options.values())])
    read = partial(source.read, width=width, height=height, mode=source.mode, **options)
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
        find, locate = partial(list_files, files), files.__getitem__
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
                find=lambda: list_idx(path),
                locate=lambda _: path,
                decode=lambda _: decode_idx(path, width, height, source.mode),
            )
        find, locate = partial(list_images, path), partial(operator.add, os.path.join(path, ''))
    alone = 'alone' if source.read is get_square else None
    decode = partial(decode_files, locate=locate, read=read, alone=alone)
    return ImageSet(path, source.mode, shape, rule, find, locate, decode)


def list_idx(path):
    """Return the `Listing` of an IDX file, whose keys are the numbers of its images."""
    states = np.array([current_state(path)], np.int64)
    return Listing(range(idx_header(path)[0]), [0], states, [])


def folder_of(file):
    """Return the folder of a file, as the user writes it."""
    return os.path.dirname(file) or '.'
