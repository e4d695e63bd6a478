"""The average of the generator's weights, against its formula."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
import trainer

from facegen.averaging import average_weights, variables_to_restore
from facegen.recipes import CLASSIC, Recipe
from facegen.session import use_tf1

use_tf1()

AVERAGE = '/ExponentialMovingAverage'


def network(is_train):
    """A dense layer with batch norm under generator/, as tf.layers build them."""
    with tf.variable_scope('generator', reuse=not is_train):
        x = tf.layers.dense(tf.ones([1, 1]), 1, use_bias=False)
        return tf.layers.batch_normalization(x, training=is_train)


def test_average_follows_its_formula():
    decay = 0.5  # a batch of 10 images and a half-life of 10
    with tf.Graph().as_default(), tf.Session() as sess:
        network(is_train=True)
        kernel = next(v for v in tf.global_variables() if 'kernel' in v.name)
        with tf.variable_scope('other'):
            tf.get_variable('weight', [])
        variables = tf.global_variables('generator/')
        restored = variables_to_restore(variables, Recipe(ema_half_life=10))
        train_op = kernel.assign_add([[1.0]])
        recipe = Recipe(ema_half_life=10, batch_size=10)
        train_op, averaged = average_weights(train_op, variables, recipe)
        with averaged:
            network(is_train=False)
        average = next(v for v in tf.global_variables() if 'kernel/Exp' in v.name)
        sess.run(tf.global_variables_initializer())
        sess.run(kernel.assign([[0.0]]))
        sess.run(average.assign([[0.0]]))
        expected = 0.0
        for step in range(1, 30):
            sess.run(train_op)
            d = min(decay, (1 + step) / (10 + step))
            expected = d * expected + (1 - d) * step
            np.testing.assert_allclose(sess.run(average), [[expected]], rtol=1e-5)
    assert sorted(restored) == [
        'generator/batch_normalization/beta/ExponentialMovingAverage',
        'generator/batch_normalization/gamma/ExponentialMovingAverage',
        'generator/batch_normalization/moving_mean/ExponentialMovingAverage',
        'generator/batch_normalization/moving_variance/ExponentialMovingAverage',
        'generator/dense/kernel/ExponentialMovingAverage',
    ]


@pytest.mark.parametrize('half_life', [0, 10])
def test_sampling_reads_the_average_where_there_is_one(half_life):
    recipe = Recipe(ema_half_life=half_life)
    with tf.Graph().as_default(), tf.Session() as sess:
        network(is_train=True)
        kernel = tf.trainable_variables()[0]
        variables = tf.global_variables('generator/')
        _, averaged = average_weights(tf.no_op(), variables, recipe)
        with averaged:
            sample = network(is_train=False)
        after = network(is_train=False)  # outside, weights are read as they are
        sess.run(tf.global_variables_initializer())
        before = sess.run([sample, after])
        sess.run(kernel.assign([[100.0]]))
        changed = [
            value != old for value, old in zip(sess.run([sample, after]), before, strict=True)
        ]
    assert changed == [not half_life, True]


def test_without_a_half_life_nothing_is_added():
    with tf.Graph().as_default() as graph:
        network(is_train=True)
        train_op, variables = tf.no_op(), tf.global_variables('generator/')
        names = set(variables_to_restore(variables, CLASSIC))
        count = len(graph.get_operations())
        same, _ = average_weights(train_op, variables, CLASSIC)
        assert same is train_op
        assert len(graph.get_operations()) == count
    assert 'generator/dense/kernel' in names
    assert not any('Average' in name for name in names)


def test_train_averages_the_network_and_not_its_optimiser(notebook):
    graph = trainer.graph_of(notebook, Recipe(ema_half_life=10_000), (64, 28, 28, 1))
    names = {v.op.name for v in graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)}
    averaged = {name.removesuffix(AVERAGE) for name in names if name.endswith(AVERAGE)}
    assert averaged == {
        f'generator/{layer}/{weight}'
        for layer, weights in {
            'dense': ['kernel'],
            'batch_normalization': ['gamma', 'beta', 'moving_mean', 'moving_variance'],
            'conv2d_transpose': ['kernel'],
            'batch_normalization_1': ['gamma', 'beta', 'moving_mean', 'moving_variance'],
            'conv2d_transpose_1': ['kernel', 'bias'],
        }.items()
        for weight in weights
    }
