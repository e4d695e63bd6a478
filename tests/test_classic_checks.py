"""What the course's own checks demand of the five functions, which users still run.

They replace `tf.variable_scope` and `tf.trainable_variables` by mocks: a network must open its
scope by exactly one call, last with `(name, reuse=...)`, and build without one.
"""

from unittest import mock

import pytest
import tensorflow.compat.v1 as tf


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


@pytest.fixture
def scope(monkeypatch):
    scope = mock.MagicMock()
    monkeypatch.setattr(tf, 'variable_scope', scope)
    return scope


def test_discriminator(notebook, scope):
    images = tf.placeholder(tf.float32, [None, 28, 28, 3])
    for arguments, reuse in ((), False), ((True,), True):
        for tensor in notebook.discriminator(images, *arguments):
            assert tensor.shape.as_list() == [None, 1]
        assert scope.call_args == mock.call('discriminator', reuse=reuse)
    assert scope.call_count == 2


def test_generator(notebook, scope):
    z = tf.placeholder(tf.float32, [None, 100])
    for arguments, reuse in ((), False), ((False,), True):
        assert notebook.generator(z, 5, *arguments).shape.as_list() == [None, 28, 28, 5]
        assert scope.call_args == mock.call('generator', reuse=reuse)
    assert scope.call_count == 2


def test_model_loss(notebook):
    images = tf.placeholder(tf.float32, [None, 28, 28, 4])
    for loss in notebook.model_loss(images, tf.placeholder(tf.float32, [None, 100]), 4):
        assert loss.shape.rank == 0


def test_model_opt(notebook, monkeypatch):
    with tf.variable_scope('discriminator'):
        d = tf.Variable(tf.zeros([3, 3]))
    with tf.variable_scope('generator'):
        g = tf.Variable(tf.zeros([3, 3]))
    trainable = mock.MagicMock(return_value=[d, g])
    monkeypatch.setattr(tf, 'trainable_variables', trainable)
    losses = [
        tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(logits=v, labels=tf.eye(3)))
        for v in (d, g)
    ]
    assert len(notebook.model_opt(*losses, 0.001, 0.9)) == 2
    assert trainable.called
