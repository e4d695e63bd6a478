"""Judge generated faces by the networks of dlib, which have no part in the project.

Prints one JSON line: the kernel distance of the features of dlib's face-recognition network (128 numbers of a
face enlarged to 168x168 pixels) between generated and real images, the share of generated and of real images in
which its detector finds a face, the mean distance between two generated images over that of two real ones,
and the mean distance to the nearest real image over that from a real one to the nearest other.

    PYTHON benchmarks/judge.py images.npy real.npy cache

PYTHON is an interpreter with `dlib`, `face_recognition_models`, `joblib`, numpy and Pillow. What the networks say
of images is kept in the folder `cache`, since the same real ones are looked at again and again.
"""

import json
import sys

import numpy as np
from PIL import Image

SIDE = 168  # pixels, that faces are enlarged to
MARGIN = 9  # pixels around what the network sees
PAIRS = 4000  # of images, whose distances are averaged


def enlarged(image):
    """Return an image uint8 [h, w, 3] as [168, 168, 3]."""
    return np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.BICUBIC))


def looked_at(images):
    """Return the features [n, 128] of images, and the share of them in which a face is found."""
    import dlib
    import face_recognition_models as models

    network = dlib.face_recognition_model_v1(models.face_recognition_model_location())
    detect = dlib.get_frontal_face_detector()
    inside = slice(MARGIN, SIDE - MARGIN)
    large = [enlarged(image) for image in images]
    chips = (np.ascontiguousarray(image[inside, inside]) for image in large)
    features = np.array([network.compute_face_descriptor(chip) for chip in chips])
    return features, float(np.mean([len(detect(image, 0)) > 0 for image in large]))


def kernel_distance(a, b):
    """Return the unbiased squared distance of features under the kernel (x y / d + 1)^3."""

    def kernel(x, y):
        return (x @ y.T / x.shape[1] + 1) ** 3

    def within(x):
        products = kernel(x, x)
        return (products.sum() - np.trace(products)) / (len(x) * (len(x) - 1))

    return float(within(a) + within(b) - 2 * kernel(a, b).mean())


def mean_distance(features):
    """Return the mean distance between two of the features, of random pairs."""
    first, second = np.random.default_rng(0).integers(0, len(features), [2, PAIRS])
    distances = np.linalg.norm(features[first] - features[second], axis=1)
    return float(distances[first != second].mean())


def nearest_distances(features, others, *, skip=0):
    """Return the distance of each feature to the nearest of the others, or the `skip` next ones."""
    return np.array(
        [np.partition(np.linalg.norm(others - one, axis=1), skip)[skip] for one in features]
    )


def main():
    """Judge the images of one file beside those of another."""
    import joblib

    *files, cache = sys.argv[1:]
    images, real = map(np.load, files)
    look = joblib.Memory(cache, verbose=0).cache(looked_at)
    (fake_features, fake_share), (real_features, real_share) = look(images), look(real)
    some = real_features[: len(images)]
    line = {
        'n': len(images),
        'n_reference': len(real),
        'kernel_distance': kernel_distance(fake_features, real_features),
        'found_share': fake_share,
        'found_share_of_real': real_share,
        'between_two': mean_distance(fake_features) / mean_distance(real_features),
        'to_the_nearest': nearest_distances(fake_features, real_features).mean()
        / nearest_distances(some, real_features, skip=1).mean(),
    }
    print(json.dumps({name: round(value, 6) for name, value in line.items()}))


if __name__ == '__main__':
    main()
