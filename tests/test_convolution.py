"""Kernel gradients as matrix products, against TensorFlow's own."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
import trainer

from facegen import convolution, session
from facegen.recipes import CLASSIC

session.use_tf1()

SIZES = [  # side, channels in, channels out, kernel, stride
    (14, 3, 4, 5, 2),
    (7, 3, 4, 4, 2),
    (7, 2, 3, 5, 2),
    (8, 2, 3, 3, 1),
    (4, 2, 3, 1, 1),
    (5, 2, 3, 2, 3),
]


@pytest.fixture
def always(monkeypatch):
    """The product is used on CPUs without bfloat16 too, which compute it in float32."""
    monkeypatch.setattr(session, 'uses_bfloat16', lambda precision: precision == 'auto')


def both_gradients(build, *shapes):
    """Return [(operations, gradients)] of build(*tensors), with TensorFlow's gradients and with ours."""
    results = []
    rng = np.random.default_rng(0)
    values = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    for precision in 'float32', 'auto':
        with tf.Graph().as_default() as graph, tf.Session() as sess:
            tensors = [tf.placeholder(tf.float32, [None, *shape[1:]]) for shape in shapes[:1]]
            tensors += [tf.placeholder(tf.float32, shape) for shape in shapes[1:]]
            with convolution.fast_kernel_gradients(precision):
                gradients = tf.gradients(tf.sin(build(*tensors)), tensors)
                steep = tf.gradients(gradients[0] ** 2, tensors[1])
            found = sess.run([*gradients, *steep], dict(zip(tensors, values, strict=True)))
            results.append(({op.type for op in graph.get_operations()}, found))
    return results


def check(results, *, replaced):
    (plain_types, plain), (fast_types, fast) = results
    assert 'Conv2DBackpropFilter' in plain_types
    assert ('GatherV2' in fast_types) is replaced
    assert ('Conv2DBackpropFilter' not in fast_types) is replaced
    for expected, found in zip(plain, fast, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(('side', 'inputs', 'outputs', 'kernel', 'stride'), SIZES)
def test_convolution(always, side, inputs, outputs, kernel, stride):
    """First and second derivatives, the latter as in the penalty of slopes."""
    results = both_gradients(
        lambda x, w: tf.nn.conv2d(x, w, stride, 'SAME'),
        [3, side, side, inputs],
        [kernel, kernel, inputs, outputs],
    )
    check(results, replaced=True)


@pytest.mark.parametrize(('side', 'inputs', 'outputs', 'kernel', 'stride'), SIZES)
def test_transposed_convolution(always, side, inputs, outputs, kernel, stride):
    small = -(-side // stride)

    def build(x, w):
        return tf.nn.conv2d_transpose(x, w, [tf.shape(x)[0], side, side, inputs], stride)

    results = both_gradients(build, [3, small, small, outputs], [kernel, kernel, inputs, outputs])
    check(results, replaced=True)


@pytest.mark.parametrize(
    ('side', 'options'),
    [
        (28, {'strides': 2, 'padding': 'SAME'}),  # 14x14 are too many
        (7, {'strides': 1, 'padding': 'VALID'}),
        (7, {'strides': 1, 'padding': 'SAME', 'dilations': 2}),
        (7, {'strides': 1, 'padding': [[0, 0], [2, 1], [0, 1], [0, 0]]}),
    ],
)
def test_others_are_left_alone(always, side, options):
    results = both_gradients(
        lambda x, w: tf.nn.conv2d(x, w, **options), [2, side, side, 2], [3, 3, 2, 2]
    )
    check(results, replaced=False)


def test_groups_are_left_alone(always):
    results = both_gradients(lambda x, w: tf.nn.conv2d(x, w, 2, 'SAME'), [2, 7, 7, 4], [3, 3, 2, 6])
    check(results, replaced=False)


@pytest.mark.parametrize('unknown', ['images', 'kernel'])
def test_unknown_shapes_are_left_alone(always, unknown):
    images, kernel = np.ones([2, 4, 4, 3], np.float32), np.ones([3, 3, 3, 2], np.float32)
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder(tf.float32, None if unknown == 'images' else images.shape)
        w = tf.placeholder(tf.float32, [None] * 4 if unknown == 'kernel' else kernel.shape)
        with convolution.fast_kernel_gradients('auto'):
            (by_kernel,) = tf.gradients(tf.nn.conv2d(x, w, 1, 'SAME'), w)
        found = sess.run(by_kernel, {x: images, w: kernel})
    assert found[:, :, 0, 0].tolist() == [[18, 24, 18], [24, 32, 24], [18, 24, 18]]


def test_float32_is_left_alone():
    with tf.Graph().as_default():
        with convolution.fast_kernel_gradients('float32'):
            out = tf.nn.conv2d(tf.ones([1, 4, 4, 1]), tf.ones([3, 3, 1, 1]), 1, 'SAME')
        with pytest.raises(ValueError, match='_gradient_op_type'):
            out.op.get_attr('_gradient_op_type')


def test_networks_of_the_notebook_get_them(always, notebook):
    """Those of D's last two convolutions, for real and generated images, and of G's first."""
    graph = trainer.graph_of(notebook, CLASSIC, (64, 28, 28, 1))
    products = {op.name for op in graph.get_operations() if op.type == 'GatherV2'}
    assert {
        'gradients/discriminator/conv2d_1/Conv2D_grad/GatherV2',
        'gradients/discriminator/conv2d_2/Conv2D_grad/GatherV2',
        'gradients/discriminator_1/conv2d_1/Conv2D_grad/GatherV2',
        'gradients/discriminator_1/conv2d_2/Conv2D_grad/GatherV2',
        'gradients_1/generator/conv2d_transpose/conv2d_transpose_grad/GatherV2',
    } <= products
