"""What a small classifier of ours sees in digits: 64 features, and a probability for each class.

`benchmarks/train_digit_classifier.py` trains it on the training digits of MNIST and writes the two
files beside this one: its weights, and what it sees in MNIST's test digits.
"""

import functools
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from facegen import session
from facegen.images import DIGIT_SIDE, are_digits, as_image
from facegen.session import tf

WEIGHTS = Path(__file__).with_name('digit_classifier.npz')
TEST_STATISTICS = Path(__file__).with_name('mnist_test.npz')
FEATURES = 64
CLASSES = 10
CONVOLUTIONS = (  # of 3x3 kernels: filters, stride
    (16, 1),  # [batch, 28, 28, 16]
    (32, 2),  # [batch, 14, 14, 32]
    (32, 1),
    (64, 2),  # [batch,  7,  7, 64]
    (64, 1),
)
BATCH_SIZE = 250


class DigitStatistics(NamedTuple):
    """What the classifier sees in the 10,000 test digits of MNIST."""

    mean: np.ndarray  # of the features of all of them, float64 [64]
    covariance: np.ndarray  # float64 [64, 64]
    features: np.ndarray  # of some of them, evenly spaced, float32 [m, 64]


def weight_shapes():
    """Return {name: shape} of the classifier's weights."""
    shapes = {}
    side, filters = DIGIT_SIDE, 1
    for number, (num_filters, stride) in enumerate(CONVOLUTIONS):
        shapes[f'kernel_{number}'] = [3, 3, filters, num_filters]
        shapes[f'bias_{number}'] = [num_filters]
        side, filters = -(-side // stride), num_filters
    shapes['feature_kernel'] = [side * side * filters, FEATURES]
    shapes['feature_bias'] = [FEATURES]
    shapes['class_kernel'] = [FEATURES, CLASSES]
    shapes['class_bias'] = [CLASSES]
    return shapes


def classifier(images, weights, *, dropout=tf.identity):
    """Return (features [batch, 64], logits [batch, 10]) of images [batch, 28, 28, 1] in [0, 1].

    3x3 convolutions, one dense layer of 64 features, one of 10 classes, with ReLU after all but the
    last, so that features are 0 or more; their mean square is about 1. `weights` are tensors by the
    names of `weight_shapes`; `dropout` is applied before both dense layers.
    """
    x = images
    for number, (_, stride) in enumerate(CONVOLUTIONS):
        x = tf.nn.conv2d(x, weights[f'kernel_{number}'], strides=stride, padding='SAME')
        x = tf.nn.relu(x + weights[f'bias_{number}'])
    x = dropout(tf.reshape(x, [-1, weights['feature_kernel'].shape[0]]))
    features = tf.nn.relu(x @ weights['feature_kernel'] + weights['feature_bias'])
    logits = dropout(features) @ weights['class_kernel'] + weights['class_bias']
    return features, logits


def digit_features(images, *, weights=WEIGHTS):
    """Return (features float32 [n, 64], probabilities float32 [n, 10]) of uint8 [n, side, side, 1].

    Digits of more than 28 pixels are reduced to 28. `weights` is the classifier's file; the classifier
    stays open in a session. Computed on the CPU and in float32, so that numbers of two machines can be
    compared.

    Raises ValueError for other images, or if the classifier's file is damaged; FileNotFoundError
    if it is missing.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or not are_digits(images.shape):
        raise ValueError(
            f'the classifier of digits knows uint8 [n, {DIGIT_SIDE}, {DIGIT_SIDE}, 1], 0 to 255, or '
            f'larger squares; found {images.dtype} {list(images.shape)}'
        )
    if not len(images):
        raise ValueError('there are no images; expected at least 1')
    classify = opened_classifier(weights)
    parts = [
        classify(reduced(images[start : start + BATCH_SIZE]))
        for start in range(0, len(images), BATCH_SIZE)
    ]
    features, probabilities = (np.concatenate(part) for part in zip(*parts, strict=True))
    return features, probabilities


def reduced(images):
    """Return images [n, side, side, 1] as [n, 28, 28, 1], by Pillow's bilinear filter, as all are."""
    if images.shape[1] == DIGIT_SIDE:
        return images
    smaller = (as_image(image).resize((DIGIT_SIDE, DIGIT_SIDE), Image.BILINEAR) for image in images)
    return np.stack([np.asarray(image)[..., None] for image in smaller])


@functools.cache
def opened_classifier(path):
    """Return a function of uint8 images to (features, probabilities); its session stays open."""
    weights = read_arrays(path, weight_shapes())
    with tf.Graph().as_default() as graph, tf.device('/cpu:0'):
        images = tf.placeholder(tf.uint8, [None, DIGIT_SIDE, DIGIT_SIDE, 1])
        tensors = {name: tf.constant(value, tf.float32) for name, value in weights.items()}
        features, logits = classifier(tf.cast(images, tf.float32) / 255, tensors)
        outputs = features, tf.nn.softmax(logits)
        graph.finalize()
    sess = tf.Session(graph=graph, config=session.config('float32'))
    return lambda batch: sess.run(outputs, {images: batch})


@functools.cache
def test_set_statistics():
    """Return the `DigitStatistics`; raises like `digit_features` for its file."""
    shapes = {
        'mean': [FEATURES],
        'covariance': [FEATURES, FEATURES],
        'features': [None, FEATURES],
        'scale': [FEATURES],
    }
    arrays = read_arrays(TEST_STATISTICS, shapes)
    return DigitStatistics(
        arrays['mean'].astype(np.float64),
        arrays['covariance'].astype(np.float64),
        arrays['features'] * arrays['scale'],
    )


def read_arrays(path, shapes):
    """Return the finite arrays of an npz file by name; `shapes` may hold None for any length.

    Raises FileNotFoundError if there is no such file, ValueError if it holds anything else.
    """
    restore = f'restore it from the repository (git checkout -- facegen/{path.name})'
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in shapes}
    except FileNotFoundError:
        raise FileNotFoundError(f'{path} is missing; {restore}') from None
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(f'{path} is damaged ({error}); {restore}') from error
    for name, shape in shapes.items():
        seen = arrays[name].shape
        fits = len(seen) == len(shape) and all(
            length in (None, found) for length, found in zip(shape, seen, strict=True)
        )
        if not fits or not np.isfinite(arrays[name]).all():
            raise ValueError(
                f'{path} is damaged ({name}: expected finite numbers {shape}, found {list(seen)}); '
                f'{restore}'
            )
    return arrays
