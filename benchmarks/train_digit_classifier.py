"""Train the classifier whose features measure generated digits; write its weights and test statistics.

Needs the full MNIST, all four files, in --data-dir (downloaded where they are missing). Writes
`digit_classifier.npz` and `mnist_test.npz`, of facegen/, to --out. Prints one JSON line. On one
machine, equal seeds give equal weights.

    python benchmarks/train_digit_classifier.py --data-dir data
"""

import argparse
import json
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np

from measuring import ROOT

sys.path.insert(0, str(ROOT))

import helper
from facegen import digits, session
from facegen.data.find import first
from facegen.data.idx import open_idx, read_exactly
from facegen.metrics import moments
from facegen.session import tf

EPOCHS = 8
BATCH_SIZE = 100
LEARNING_RATE = 2e-3  # falls linearly to 0
KEEP = 0.6  # share of activations that dropout leaves
SHIFT = 2  # pixels, at most, either way
ROTATION = np.pi / 18  # at most, either way
ZOOM = 0.08  # at most, either way
ENDINGS = '', '.gz'
MEASURED = 2000  # training digits that decide the scale of the features
KEPT_FEATURES = 2000  # of the test digits, evenly spaced: the first half of them is easier


def read(data_dir, part):
    """Return (uint8 images [n, 28, 28, 1], labels [n]) of the 'train' or 't10k' digits."""
    places = data_dir, data_dir / 'mnist'
    names = f'{part}-images-idx3-ubyte', f'{part}-labels-idx1-ubyte'
    images, labels = (
        first(Path.is_file, [place / (name + end) for place in places for end in ENDINGS])
        for name in names
    )
    pixels = helper.Dataset('mnist', images).pixels
    with open_idx(labels) as file:
        read_exactly(file, 8)  # magic number, count
        return pixels, np.frombuffer(read_exactly(file, len(pixels)), np.uint8)


def jitter(images, rng):
    """Return images [n, 28, 28, 1], each turned, zoomed and shifted a little, bilinearly."""
    count, side, *_ = images.shape
    angle = rng.uniform(-ROTATION, ROTATION, count)
    zoom = rng.uniform(1 - ZOOM, 1 + ZOOM, count)
    cos, sin = (part[:, None, None] for part in (np.cos(angle) / zoom, np.sin(angle) / zoom))
    shift_y, shift_x = rng.uniform(-SHIFT, SHIFT, [2, count, 1, 1])
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    pad = 1
    low, high = -pad, side - 1 + pad
    centre = (side - 1) / 2
    source_y = np.clip(cos * y - sin * x + shift_y + centre, low, high - 1e-3) + pad
    source_x = np.clip(sin * y + cos * x + shift_x + centre, low, high - 1e-3) + pad
    padded = np.pad(images[..., 0], ((0, 0), (pad, pad), (pad, pad)))
    top, left = source_y.astype(int), source_x.astype(int)
    down, right = source_y - top, source_x - left
    row = np.arange(count)[:, None, None]
    upper = padded[row, top, left] * (1 - right) + padded[row, top, left + 1] * right
    lower = padded[row, top + 1, left] * (1 - right) + padded[row, top + 1, left + 1] * right
    return (upper * (1 - down) + lower * down)[..., None].astype(np.float32)


def train(images, labels, epochs, seed):
    """Return the trained weights {name: float32 array}.

    The features are scaled so that their mean square is 1, and the layer after them inversely.
    What the classifier says stays as it is, and distances do not depend on an arbitrary scale.
    """
    session.use_tf1()
    steps = epochs * (len(images) // BATCH_SIZE)
    rng = np.random.default_rng(seed)
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(seed)
        inputs = tf.placeholder(tf.float32, [None, digits.SIDE, digits.SIDE, 1])
        classes = tf.placeholder(tf.int32, [None])
        rate = tf.placeholder(tf.float32, [])
        weights = {
            name: tf.get_variable(
                name,
                shape,
                initializer=tf.initializers.he_normal(seed=seed + number)
                if len(shape) > 1
                else tf.zeros_initializer(),
            )
            for number, (name, shape) in enumerate(digits.weight_shapes().items())
        }
        _, logits = digits.classifier(
            inputs, weights, dropout=lambda x: tf.nn.dropout(x, rate=1 - KEEP)
        )
        features, _ = digits.classifier(inputs, weights)
        loss = tf.losses.sparse_softmax_cross_entropy(classes, logits)
        step = tf.train.AdamOptimizer(rate).minimize(loss)
        initialize = tf.global_variables_initializer()
        graph.finalize()
        with tf.Session(config=session.config('float32')) as sess:
            sess.run(initialize)
            done = 0
            for epoch in range(epochs):
                order = rng.permutation(len(images))
                for start in range(0, len(order) - BATCH_SIZE + 1, BATCH_SIZE):
                    batch = order[start : start + BATCH_SIZE]
                    feed = {
                        inputs: jitter(images[batch].astype(np.float32) / 255, rng),
                        classes: labels[batch],
                        rate: LEARNING_RATE * (1 - done / steps),
                    }
                    value, _ = sess.run([loss, step], feed)
                    done += 1
                print(f'epoch {epoch + 1} of {epochs}: loss {value:.3f}', file=sys.stderr)
            some = images[:MEASURED].astype(np.float32) / 255
            scale = np.sqrt(np.mean(sess.run(features, {inputs: some}) ** 2))
            trained = sess.run(weights)
    trained['feature_kernel'] /= scale
    trained['feature_bias'] /= scale
    trained['class_kernel'] *= scale
    return trained


def write(file, **arrays):
    """Write arrays to an npz file, which appears only when it is complete; return its bytes."""
    partial = file.with_name(f'.{file.name}.partial')
    try:
        with partial.open('wb') as stream:
            np.savez_compressed(stream, **arrays)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    return file.stat().st_size


def write_statistics(file, features):
    """Write mean and covariance of features [n, 64], and KEPT_FEATURES of them as bytes."""
    mean, covariance = moments(features)
    kept = features[:: len(features) // KEPT_FEATURES]
    scale = np.maximum(kept.max(axis=0), 1e-6) / 255
    return write(
        file,
        mean=mean.astype(np.float32),
        covariance=covariance.astype(np.float32),
        features=np.rint(kept / scale).astype(np.uint8),
        scale=scale.astype(np.float32),
    )


def main():
    """Train, write both files, print the measurement."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--data-dir', type=Path, default=ROOT / 'data', help='folder of MNIST')
    parser.add_argument(
        '--out', type=Path, default=digits.WEIGHTS.parent, help='folder to write to'
    )
    parser.add_argument('--epochs', type=int, default=EPOCHS, help='passes over the digits')
    parser.add_argument('--seed', type=int, default=0, help='of all randomness')
    arguments = parser.parse_args()
    with redirect_stdout(sys.stderr):
        helper.download_extract('mnist', arguments.data_dir, data='full')
        images, labels = read(arguments.data_dir, 'train')
        test_images, test_labels = read(arguments.data_dir, 't10k')
    started = time.perf_counter()
    weights = train(images, labels, arguments.epochs, arguments.seed)
    seconds = time.perf_counter() - started
    file = arguments.out / digits.WEIGHTS.name
    halves = {name: value.astype(np.float16) for name, value in weights.items()}
    weights_size = write(file, **halves)
    features, probabilities = digits.digit_features(test_images, weights=file)
    statistics_size = write_statistics(arguments.out / digits.TEST_STATISTICS.name, features)
    print(
        json.dumps(
            {
                'benchmark': 'train_digit_classifier',
                'test_accuracy': float((probabilities.argmax(axis=1) == test_labels).mean()),
                'seconds': round(seconds, 1),
                'weights_bytes': weights_size,
                'statistics_bytes': statistics_size,
                'epochs': arguments.epochs,
                'seed': arguments.seed,
                **session.versions(),
            }
        )
    )


if __name__ == '__main__':
    main()
