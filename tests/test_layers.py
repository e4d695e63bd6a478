"""What recipes add to the networks."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from facegen import layers
from facegen.recipes import CLASSIC, Recipe
from facegen.session import use_tf1

use_tf1()

DROPPING = Recipe(dropout=0.25)


def dropped(seed, steps):
    """Return, for each step, two layers of 10,000 ones after dropout."""
    with tf.Graph().as_default(), tf.Session() as sess:
        tf.set_random_seed(seed)
        step = tf.train.get_or_create_global_step()
        ones = tf.ones([100, 100])
        pair = [layers.dropout(ones, DROPPING), layers.dropout(ones, DROPPING)]
        found = {}
        for value in steps:
            step.load(value, sess)
            found[value] = sess.run(pair)
        return found


def test_dropout_zeroes_a_share_and_keeps_the_mean():
    ((first, _),) = dropped(1, [0]).values()
    assert set(np.unique(first)) == {np.float32(0), np.float32(4 / 3)}
    assert (first == 0).mean() == pytest.approx(0.25, abs=0.02)


def test_dropout_depends_on_seed_step_and_layer_only():
    one, again, other = dropped(1, [5, 6]), dropped(1, [6, 5]), dropped(2, [5])
    np.testing.assert_array_equal(one[5], again[5])
    np.testing.assert_array_equal(one[6], again[6])
    assert (one[5][0] != one[6][0]).any()
    assert (one[5][0] != one[5][1]).any()
    assert (one[5][0] != other[5][0]).any()


def test_no_dropout_adds_nothing_to_the_graph():
    with tf.Graph().as_default() as graph:
        x = tf.ones([2])
        assert layers.dropout(x, CLASSIC) is x
        assert len(graph.get_operations()) == 1


@pytest.mark.parametrize(
    ('size', 'filters', 'last', 'layer_by_layer'),
    [
        (28, (2, 1), 0, [(7, 2), (14, 1)]),
        (28, (3, 2, 1), 0, [(4, 3), (7, 2), (14, 1)]),
        (64, (1,), 5, [(32, 1), (64, 5)]),
    ],
)
def test_doublings(size, filters, last, layer_by_layer):
    recipe = Recipe(image_size=size, g_filters=filters, g_last_filters=last)
    assert layers.doublings(recipe) == layer_by_layer


def test_the_category_is_the_place_of_the_largest_of_the_first_numbers():
    z = [[0.1, 0.5, -1.0, 0.9], [0.3, -0.2, 0.1, 0.0]]
    with tf.Graph().as_default(), tf.Session() as sess:
        found = sess.run(layers.with_category(tf.constant(z), Recipe(z_categories=3)))
    np.testing.assert_allclose(found, [[*z[0], 0, 3, 0], [*z[1], 3, 0, 0]])


def test_categories_need_long_latents():
    with tf.Graph().as_default():
        z = tf.zeros([1, 4])
        assert layers.with_category(z, CLASSIC) is z
        with pytest.raises(ValueError, match='have 4 numbers; expected at least the 5'):
            layers.with_category(z, Recipe(z_categories=5))
