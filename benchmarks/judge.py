"""Judge generated faces by the networks of dlib, which have no part in the project.

Prints one JSON line: the kernel distance of the features of dlib's face-recognition network (128 numbers of a
face enlarged to 168x168 pixels) between generated and real images, the share of generated and of real images in
which its detector finds a face, the mean distance between two generated images over that of two real ones,
and the mean distance to the nearest real image over that from a real one to the nearest other.

    PYTHON benchmarks/judge.py images.npy real.npy

PYTHON is an interpreter with `dlib`, `face_recognition_models`, numpy and Pillow.
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


def descriptions(images, network):
    """Return the features [n, 128] of images."""
    inside = slice(MARGIN, SIDE - MARGIN)
    chips = (np.ascontiguousarray(enlarged(image)[inside, inside]) for image in images)
    return np.array([network.compute_face_descriptor(chip) for chip in chips])


def found_share(images, detect):
    """Return the share of images in which a face is found."""
    return float(np.mean([len(detect(enlarged(image), 0)) > 0 for image in images]))


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
    import dlib
    import face_recognition_models as models

    network = dlib.face_recognition_model_v1(models.face_recognition_model_location())
    detect = dlib.get_frontal_face_detector()
    images, real = (np.load(file) for file in sys.argv[1:])
    fake_features, real_features = (descriptions(x, network) for x in (images, real))
    some = real_features[: len(images)]
    line = {
        'n': len(images),
        'n_reference': len(real),
        'kernel_distance': kernel_distance(fake_features, real_features),
        'found_share': found_share(images, detect),
        'found_share_of_real': found_share(real, detect),
        'between_two': mean_distance(fake_features) / mean_distance(real_features),
        'to_the_nearest': nearest_distances(fake_features, real_features).mean()
        / nearest_distances(some, real_features, skip=1).mean(),
    }
    print(json.dumps({name: round(value, 6) for name, value in line.items()}))


if __name__ == '__main__':
    main()
