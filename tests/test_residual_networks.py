"""The residual networks: shapes, what their blocks compute, and the checks of the lesson."""

import math
from dataclasses import replace

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import problem_unittests as checks
from facegen import networks
from facegen.recipes import Recipe, recipe_named

TINY = Recipe(
    network='residual', image_size=28, kernel_size=4, d_filters=(4, 6), g_filters=(6, 4), g_last_filters=3
)  # fmt: skip


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(0)
        yield graph


def values(tensors):
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        return sess.run(tensors)


def shapes(scope):
    """Return the shapes of a network's kernels, in the order of its layers."""
    variables = tf.trainable_variables(scope)
    return [v.shape.as_list() for v in variables if v.op.name.endswith('kernel')]


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('size', [28, 36, 64, 128])
def test_sizes_and_channels(notebook, size, channels):
    recipe = Recipe(
        network='residual', image_size=size, d_filters=(2, 3, 4), g_filters=(4, 3, 2), g_last_filters=2
    )  # fmt: skip
    images = notebook.generator(tf.ones([2, 5]), channels, recipe=recipe)
    probability, logits = notebook.discriminator(images, recipe=recipe)
    assert images.shape.as_list() == [2, size, size, channels]
    images, probability, logits = values([images, probability, logits])
    assert np.abs(images).max() <= 1
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-logits)), rtol=1e-5)


def test_layers(notebook):
    notebook.discriminator(notebook.generator(tf.ones([2, 5]), 3, recipe=TINY), recipe=TINY)
    assert shapes('generator/') == [
        [5, 7 * 7 * 6],
        *([1, 1, 6, 4], [4, 4, 4, 6], [3, 3, 4, 4]),  # 14x14
        *([1, 1, 4, 3], [4, 4, 3, 4], [3, 3, 3, 3]),  # 28x28
        [3, 3, 3, 3],
    ]
    assert shapes('discriminator/') == [
        [4, 4, 3, 4],  # 14x14
        *([1, 1, 4, 6], [3, 3, 4, 4], [4, 4, 4, 6]),  # 7x7
        [7 * 7 * 6, 1],
    ]


def test_the_largest_recipe_begins_with_four_pixels(notebook):
    recipe = replace(recipe_named('faces', 128), network='residual')
    z = tf.placeholder(tf.float32, [None, recipe.z_dim])
    notebook.discriminator(notebook.generator(z, 3, recipe=recipe), recipe=recipe)
    assert shapes('generator/')[0] == [100, 4 * 4 * 256]
    assert shapes('discriminator/')[-1] == [4 * 4 * 256, 1]


def test_a_block_is_the_sum_of_its_ways(monkeypatch):
    """With convolutions that do nothing, D's halves by means and G's doubles by interpolation."""
    monkeypatch.setattr(networks, 'convolution', nothing)
    x = np.random.default_rng(0).normal(size=[2, 4, 4, 3]).astype(np.float32)
    recipe = Recipe(d_leak=0.0, g_leak=0.2)
    down = networks.down_block(tf.constant(x), 3, recipe)
    up = networks.up_block(tf.constant(x), 3, 7, recipe, is_train=False)
    means = x.reshape(2, 2, 2, 2, 2, 3).mean(axis=(2, 4))
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)], 'edge')
    shares = {(0, 0): 1 / 16, (0, 1): 3 / 16, (1, 0): 3 / 16, (1, 1): 9 / 16}
    enlarged = np.zeros([2, 8, 8, 3], np.float32)
    for (i, j), share in shares.items():  # of the pixel one further out, or not, down and right
        for odd_row, odd_column in np.ndindex(2, 2):
            rows = slice(i, i + 4) if odd_row == 0 else slice(2 - i, 6 - i)
            columns = slice(j, j + 4) if odd_column == 0 else slice(2 - j, 6 - j)
            enlarged[:, odd_row::2, odd_column::2] += share * padded[:, rows, columns]
    down, up = values([down, up])
    np.testing.assert_allclose(down, means / math.sqrt(2), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(up, enlarged[:, :7, :7] / math.sqrt(2), rtol=1e-4, atol=1e-5)


def nothing(x, filters, kernel_size, recipe, *, stride=1, transposed=False, use_bias=True):
    """Stand for a convolution: 0, but for those of the shortcut, which give x back."""
    if kernel_size == 1:
        return x
    size = x.shape[1] * stride if transposed else x.shape[1] // stride
    return tf.zeros([x.shape[0], size, size, filters])


def test_d_judges_each_image_alone(notebook):
    images = tf.constant(np.random.default_rng(0).uniform(-1, 1, [4, 28, 28, 3]), tf.float32)
    _, together = notebook.discriminator(images, recipe=TINY)
    _, alone = notebook.discriminator(images[:1], reuse=True, recipe=TINY)
    together, alone = values([together, alone])
    np.testing.assert_allclose(together[:1], alone, atol=1e-5)


def test_the_checks_of_the_lesson_pass(notebook, capsys):
    def discriminator(images, reuse=False):
        return notebook.discriminator(images, reuse, recipe=TINY)

    def generator(z, out_channel_dim, is_train=True):
        return notebook.generator(z, out_channel_dim, is_train, recipe=TINY)

    checks.test_discriminator(discriminator, tf)
    checks.test_generator(generator, tf)
    assert capsys.readouterr().out == 'Tests Passed\n' * 2
