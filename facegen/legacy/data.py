"""Where an old notebook finds its images: its `data_dir` is ours, in the layout of 2017.

A notebook calls `helper.download_extract(name, data_dir)` with a folder such as `/input`, and then
globs `mnist/*.jpg` and `img_align_celeba/*.jpg` in it. Here these lie below `classic/` in the folder
of the data sets: the faces as a link, the digits as JPEGs of the highest quality. `helper.Dataset`
does not decode them again: it takes the digits as published and the decoded faces of the cache.
"""

import glob
import math
import os
import re
import sys
import tempfile
import warnings
from itertools import chain
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image

from facegen.data import dataset
from facegen.data.crop import get_batch, get_image
from facegen.data.sources import DATASETS, download_extract
from facegen.files import UNWRITABLE, complete, expanded, locked
from facegen.images import square_grid

FOLDERS = {'mnist': 'mnist', 'celeba': 'img_align_celeba'}
NAMES_A_FOLDER = re.compile(r'dir|path|data|folder|root|input', re.IGNORECASE)  # of variables
CLASSIC_PATTERN = re.compile(rf'(?:.*[/\\])?({"|".join(FOLDERS.values())})[/\\]+([^/\\]*)')
_glob = {name: getattr(glob, name) for name in ('glob', 'iglob')}


class ClassicData:
    """The data sets of one folder in the layout of 2017."""

    def use(self, data_dir, data):
        """Take the data sets of `data_dir`; prepare nothing before it is asked for.

        Raises ValueError for an unknown `data`.
        """
        if data not in ('auto', 'sample', 'full'):
            raise ValueError(f"data is {data!r}; choose 'auto', 'sample' or 'full'")
        self.data_dir = expanded(data_dir).absolute()
        self.data = data
        self.sources = {}

    @property
    def root(self):
        """The folder that stands for the notebook's `data_dir`."""
        return self.data_dir / 'classic' / self.data

    def folder(self, name):
        """Return the folder of JPEGs of 'mnist' or 'celeba', made if it is not there yet."""
        folder = self.root / FOLDERS[name]
        if name not in self.sources:
            source = self.source(name)
            images = source if source.is_dir() else self.digits(source)
            try:
                link(folder, images)
            except OSError as error:
                if error.errno not in UNWRITABLE:
                    raise
                self.data_dir = Path(tempfile.mkdtemp(prefix='facegen-'))
                link(self.root / FOLDERS[name], images)
            self.sources[name] = source
        return self.root / FOLDERS[name]

    def source(self, name):
        """Return what the images come from: a folder, or the IDX file of the digits.

        The digits of 2017, if they still lie in the data folder, are used like any full set.
        """
        if name == 'mnist' and self.data != 'sample':
            extracted = self.data_dir / 'mnist'
            if next(extracted.glob('*.jpg'), None):
                print(f'mnist: the digits in {extracted}')
                return extracted
        return download_extract(name, self.data_dir, data=self.data)

    def digits(self, source):
        """Return a folder of JPEGs of the digits in the IDX file `source`."""
        pixels = dataset.Dataset('mnist', source, shuffle=False).pixels
        folder = self.data_dir / 'classic' / f'mnist_{len(pixels)}'
        try:
            write_jpegs(pixels, folder)
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            folder = Path(tempfile.mkdtemp(prefix='facegen-'), folder.name)
            print(f'{self.data_dir} cannot be written: the digits are in {folder} for this run')
            write_jpegs(pixels, folder)
        return folder

    def decoded(self, name, files):
        """Return the source of a whole data set, whose pixels are kept, for its list of `files`."""
        if name not in self.sources or isinstance(files, (str, os.PathLike)):
            return files
        files = list(files)
        folder = self.folder(name)
        whole = {os.path.dirname(file) for file in files} == {str(folder)}
        whole = whole and len(set(files)) == sum(1 for _ in os.scandir(folder))
        return self.sources[name] if whole else files


def write_jpegs(pixels, folder):
    """Write digits, uint8 [n, h, w, 1], as image_0.jpg, … into `folder`, complete or not at all.

    At quality 100 no pixel is off by more than 2 of 255 levels, since only rounding is left.
    """
    if folder.is_dir():
        return
    with locked(folder.parent):
        if folder.is_dir():  # of another process that was faster
            return
        with complete(folder) as partial:
            partial.mkdir()
            for number, image in enumerate(pixels):
                Image.fromarray(image[..., 0]).save(partial / f'image_{number}.jpg', quality=100)


def link(path, folder):
    """Make `path` lead to `folder`, whatever it has led to before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.samefile(folder):
        return
    if os.name == 'nt':
        import _winapi

        if os.path.lexists(path):
            path.rmdir()
        _winapi.CreateJunction(str(folder), str(path))  # needs no privilege, unlike a link
        return
    fresh = path.with_name(f'.{path.name}.{os.getpid()}')
    fresh.symlink_to(folder, target_is_directory=True)
    fresh.replace(path)


def helper_of_2017(classic, limit):
    """Return `helper` as an old notebook knows it; redirect its globs of images as well."""

    def redirected(pattern):
        match = CLASSIC_PATTERN.fullmatch(os.fspath(pattern))
        if not match:
            return pattern
        name = next(name for name, folder in FOLDERS.items() if folder == match[1])
        return os.path.join(classic.folder(name), match[2])

    for function in _glob:
        setattr(glob, function, _redirected_glob(_glob[function], redirected))

    module = ModuleType('helper')
    module.download_extract = downloader(classic)
    module.Dataset = dataset_class(classic, limit)
    module.get_image, module.get_batch = get_image, get_batch
    module.images_square_grid = grid_of_anything
    return module


def _redirected_glob(function, redirected):
    def redirected_glob(pathname, **options):
        if 'root_dir' in options:
            return function(pathname, **options)
        return function(redirected(pathname), **options)

    return redirected_glob


def downloader(classic):
    """Return the `download_extract` of 2017, after which the notebook's folder is ours."""

    def download_extract(database_name, data_path):
        """Get a data set; the caller's variables that named `data_path` then name our folder."""
        if database_name not in FOLDERS:
            raise ValueError(f'unknown data set {database_name!r}; choose one of {sorted(FOLDERS)}')
        classic.folder(database_name)
        names = sys._getframe(1).f_globals  # the notebook's cell
        for name, value in list(names.items()):
            if NAMES_A_FOLDER.search(name) and isinstance(value, str) and value == data_path:
                slash = '/' if data_path.endswith('/') else ''
                names[name] = f'{classic.root}{slash}'

    return download_extract


def dataset_class(classic, limit):
    """Return the `Dataset` of 2017 with our cache, whose batches obey `limit`."""

    class Dataset(dataset.Dataset):
        """A list of images that serves batches."""

        def __init__(self, dataset_name, data_files):
            source = classic.decoded(dataset_name, data_files)
            super().__init__(dataset_name, source)
            self.data_files = data_files
            self.images_an_epoch = len(self.pixels)
            if source is classic.sources.get(dataset_name):  # of 2017's folder, all images
                self.images_an_epoch = DATASETS[dataset_name].num_images

        def get_batches(self, batch_size):
            """Yield float32 [batch_size, 28, 28, channels] in [-0.5, 0.5].

            A sample goes round until an epoch has as many steps as the full set's, or as `limit` allows:
            what a notebook does once in so many steps, it does at least once an epoch.
            """
            first = super().get_batches(batch_size)
            wanted = self.images_an_epoch // batch_size
            steps = min(wanted, limit.max_steps or wanted)
            rounds = math.ceil(steps / (len(self.pixels) // batch_size))
            more = (super(Dataset, self).get_batches(batch_size) for _ in range(rounds - 1))
            return limit.batches(self, chain(first, chain.from_iterable(more)))

    return Dataset


def grid_of_anything(images, mode):
    """Return an `images_square_grid` that shows diverged images too, as that of 2017 did."""
    if not np.isfinite(images).all():
        warnings.warn('the images hold NaN or infinite values', stacklevel=2)
        images = np.nan_to_num(images)
    return square_grid(images, mode)
