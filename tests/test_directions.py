"""Principal directions: of known matrices, and of first layers of real graphs."""

import numpy as np
import pytest

from facegen.directions import directions_of, principal_directions
from facegen.sampling import Sampler
from facegen.session import tf


def test_directions_of_a_diagonal_layer_are_its_axes_the_strongest_first():
    directions = principal_directions(np.diag([1.0, -3.0, 2.0]), 2)
    np.testing.assert_allclose(directions, [[0, 0], [1, 0], [0, 1]], atol=1e-12)


def test_directions_of_a_layer_of_known_singular_vectors():
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.normal(size=[n, n]))[0] for n in (4, 6))
    directions = principal_directions(left @ np.diag([4.0, 3.0, 2.0, 1.0]) @ right[:4], 3)
    for i in range(3):
        np.testing.assert_allclose(abs(directions[:, i] @ left[:, i]), 1, atol=1e-12)
    np.testing.assert_allclose(directions.T @ directions, np.eye(3), atol=1e-12)
    assert all(directions[np.abs(directions).argmax(0), range(3)] > 0)


def test_numbers_that_choose_a_category_are_left_alone():
    kernel = np.diag([9.0, 1.0, 2.0])
    kernel[0, 2] = 5  # would turn the others
    np.testing.assert_allclose(principal_directions(kernel, 1, kept=1), [[0], [0], [1]], atol=1e-12)


def restored(shape, values):
    """Return a generator whose first weights are `values`, of latents of three numbers."""
    graph = tf.Graph()
    with graph.as_default():
        z = tf.placeholder(tf.float32, [None, 3])
        with tf.variable_scope('generator'):
            tf.get_variable('scale', [3])
            weights = tf.get_variable('kernel', shape)
            tf.get_variable('later', [9, 9])
        sess = tf.Session(graph=graph)
        sess.run(weights.assign(values))
    return Sampler(sess, z, None)


@pytest.mark.parametrize(
    ('shape', 'values'),
    [
        ([3, 3], np.diag([1, 3, 2])),
        ([4, 3], [[1, 0, 0], [0, 3, 0], [0, 0, 2], [9, 9, 9]]),  # the last row sees a category
        ([1, 1, 3, 3], np.diag([1, 3, 2])[None, None]),  # [height, width, filters, inputs]
    ],
)
def test_first_layer_of_a_generator(shape, values):
    trained = restored(shape, values)
    with trained.sess:
        np.testing.assert_allclose(directions_of(trained, 2), [[0, 0], [1, 0], [0, 1]], atol=1e-6)


def test_a_generator_that_begins_with_another_layer():
    trained = restored([2, 5], np.ones([2, 5]))
    with trained.sess, pytest.raises(ValueError, match=r'kernel, are \[2, 5\]; expected .*\[3, '):
        directions_of(trained, 1)
