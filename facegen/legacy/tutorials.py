"""`tensorflow.examples.tutorials.mnist`, from which other notebooks of the course took their digits."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np

from facegen.data import find
from facegen.data.dataset import Dataset
from facegen.data.idx import labels_of
from facegen.data.sources import DATASETS
from facegen.images import to_unit_range

SHARE = 10  # of a sample, a tenth each is for validation and for tests


class Digits:
    """Images and labels, in batches: the `DataSet` of the tutorials."""

    def __init__(self, images, labels, rng):
        """Take images in [0, 1], [n, 784] or [n, 28, 28, 1], with their labels."""
        self.images, self.labels, self.rng = images, labels, rng
        self.num_examples, self.epochs_completed = len(images), 0
        self.order, self.taken = np.arange(len(images)), None

    def next_batch(self, batch_size, fake_data=False, shuffle=True):
        """Return (images, labels) of the next batch; the rest of an epoch begins with the next one."""
        if self.taken is None:
            self.begin(shuffle)
        chosen = self.order[self.taken : self.taken + batch_size]
        self.taken += len(chosen)
        while len(chosen) < batch_size:
            self.epochs_completed += 1
            self.begin(shuffle)
            more = self.order[: batch_size - len(chosen)]
            self.taken = len(more)
            chosen = np.concatenate([chosen, more])
        return self.images[chosen], self.labels[chosen]

    def begin(self, shuffle):
        """Begin an epoch."""
        self.taken = 0
        if shuffle:
            self.order = self.rng.permutation(self.num_examples)


def reader(classic):
    """Return `read_data_sets`, whose digits are those of `classic`, whatever folder it is told."""

    def read_data_sets(
        train_dir=None,
        fake_data=False,
        one_hot=False,
        dtype=np.float32,
        reshape=True,
        validation_size=5000,
        seed=None,
        source_url=None,
    ):
        """Return digits for training, validation and tests, as images in [0, 1] with labels."""
        images, labels, test_images, test_labels = labelled(classic)
        if test_images is None:
            part = len(images) // SHARE
            validation_size = min(validation_size, part)
            images, test_images = images[:-part], images[-part:]
            labels, test_labels = labels[:-part], labels[-part:]
        rng = np.random.default_rng(seed)

        def digits(pixels, numbers):
            values = pixels if np.dtype(dtype_of(dtype)) == np.uint8 else to_unit_range(pixels)
            if reshape:
                values = values.reshape(len(values), -1)
            return Digits(values, np.eye(10)[numbers] if one_hot else numbers, rng)

        first, rest = slice(validation_size), slice(validation_size, None)
        return SimpleNamespace(
            train=digits(images[rest], labels[rest]),
            validation=digits(images[first], labels[first]),
            test=digits(test_images, test_labels),
        )

    return read_data_sets


def dtype_of(dtype):
    """Return the numpy type of a type of TensorFlow's or numpy's."""
    return getattr(dtype, 'as_numpy_dtype', dtype)


def labelled(classic):
    """Return (images, labels, test images, test labels); of a sample, the latter two are None."""
    path = classic.source('mnist')
    full = find.labelled_digits(DATASETS['mnist'], classic.data_dir)
    if full and path == full[0]:
        images, labels, test_images, test_labels = full
        return (*pixels_and_labels(images, labels), *pixels_and_labels(test_images, test_labels))
    path = find.sample_digits(DATASETS['mnist'], classic.data_dir)
    images = np.array(Dataset('mnist', path).pixels)
    return images, np.arange(len(images)) % 10, None, None  # image i of the sample shows i % 10


def pixels_and_labels(images, labels):
    """Return (uint8 [n, 28, 28, 1], uint8 [n]) of two IDX files."""
    return np.array(Dataset('mnist', images).pixels), labels_of(labels)


def install(classic, tensorflow):
    """Provide `tensorflow.examples.tutorials.mnist.input_data`."""
    parent, name = tensorflow, 'tensorflow'
    for part in ('examples', 'tutorials', 'mnist', 'input_data'):
        name = f'{name}.{part}'
        module = sys.modules[name] = ModuleType(name, __doc__)
        module.__path__ = []
        setattr(parent, part, module)
        parent = module
    parent.read_data_sets = reader(classic)
    sys.modules['tensorflow.examples.tutorials.mnist'].read_data_sets = parent.read_data_sets
