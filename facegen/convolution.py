"""Kernel gradients of convolutions as one matrix product, which bfloat16 on a CPU makes faster.

On small images, TensorFlow's own operation for them is three to five times as slow as the matrix
product of the same size, and took 40 % of a training step. Here the patches that the kernel saw are
gathered into a matrix, and that is multiplied by the gradient of what the kernel made of them. The
networks stay as they are: only the gradient functions of two operations are replaced.
"""

from contextlib import contextmanager

import numpy as np

from facegen import session
from facegen.session import tf

FEW_PIXELS = 64  # after the convolution; up to this, the product is faster: 8x8, not 14x14


@contextmanager
def fast_kernel_gradients(precision):
    """Inside, new (transposed) convolutions get such gradients, if the session will use bfloat16."""
    if not session.uses_bfloat16(precision):
        yield
        return
    replaced = {'Conv2D': 'Conv2DByProduct', 'Conv2DBackpropInput': 'TransposedByProduct'}
    with tf.get_default_graph().gradient_override_map(replaced):
        yield


@tf.RegisterGradient('Conv2DByProduct')
def convolution_gradients(op, gradient):
    """Return the gradients of a Conv2D(images, kernel) with respect to images and kernel."""
    images, kernel = op.inputs
    by_images = tf.raw_ops.Conv2DBackpropInput(
        input_sizes=tf.shape(images), filter=kernel, out_backprop=gradient, **attributes(op)
    )
    by_images.set_shape(images.shape)
    return by_images, kernel_gradient(images, kernel, gradient, op)


@tf.RegisterGradient('TransposedByProduct')
def transposed_gradients(op, gradient):
    """Return the gradients by sizes (none), kernel and images of a transposed convolution.

    It runs a convolution backwards, so its images take the place of that one's gradient.
    """
    _, kernel, images = op.inputs
    by_images = tf.raw_ops.Conv2D(input=gradient, filter=kernel, **attributes(op))
    return None, kernel_gradient(gradient, kernel, images, op), by_images


def kernel_gradient(images, kernel, gradient, op):
    """Return the gradient of a convolution like `op` by its kernel [k, k, inputs, outputs].

    `images` [n, h, w, inputs] are its input, `gradient` [n, a, b, outputs] is that of its output.
    """
    places = patch_places(images.shape, kernel.shape, gradient.shape, op)
    if places is None:
        return tf.raw_ops.Conv2DBackpropFilter(
            input=images, filter_sizes=tf.shape(kernel), out_backprop=gradient, **attributes(op)
        )
    _, height, width, inputs = images.shape.as_list()
    outputs = kernel.shape.as_list()[-1]
    pixels = tf.pad(tf.reshape(images, [-1, height * width, inputs]), [[0, 0], [0, 1], [0, 0]])
    weights = kernel.shape.num_elements() // outputs  # of one output
    patches = tf.reshape(tf.gather(pixels, places, axis=1), [-1, weights])
    product = tf.matmul(patches, tf.reshape(gradient, [-1, outputs]), transpose_a=True)
    return tf.reshape(product, kernel.shape)


def patch_places(images, kernel, gradient, op):
    """Return which pixel lies below each weight of a kernel at each of its places, one after the other.

    Pixels are counted row by row; beyond the border, it is the one after the last. The arguments
    are shapes. Returns None where the product would be slower, or cannot replace such an `op`.
    """
    if None in (images.rank, gradient.rank):
        return None
    images, kernel, gradient = (shape.as_list() for shape in (images, kernel, gradient))
    known = None not in [*images[1:], *kernel, *gradient[1:]]
    options = attributes(op)
    plain = options['padding'] == b'SAME' and options['data_format'] == b'NHWC'
    if not (known and plain and options['dilations'] == [1] * 4):
        return None
    in_groups = images[3] != kernel[2]
    if in_groups or gradient[1] * gradient[2] > FEW_PIXELS:
        return None
    rows, columns = (
        below(*sizes)
        for sizes in zip(
            images[1:3], kernel[:2], gradient[1:3], options['strides'][1:3], strict=True
        )
    )
    height, width = images[1:3]
    rows, columns = rows[:, None, :, None], columns[None, :, None, :]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    return np.where(inside, rows * width + columns, height * width).reshape(-1)


def below(length, kernel, places, stride):
    """Return the pixels [places, kernel] below a kernel along one side, `SAME` padding around it."""
    padding = max((places - 1) * stride + kernel - length, 0)
    return stride * np.arange(places)[:, None] + np.arange(kernel) - padding // 2


def attributes(op):
    """Return how a convolution is done."""
    names = 'strides', 'padding', 'explicit_paddings', 'data_format', 'dilations'
    return {name: op.get_attr(name) for name in names}
