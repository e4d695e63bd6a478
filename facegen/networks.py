"""Residual networks: another G and D than the notebook's, of a recipe with `network='residual'`.

A residual block adds what its convolutions compute to its input, so that a gradient has a short way
past them, and more layers can be trained (He et al. 2016, arXiv:1603.05027). Here each block also halves
or doubles the image, as those of SNGAN do (Miyato et al. 2018, arXiv:1802.05957, appendix B.4).
Strided convolutions resample, as in the notebook; the shortcuts use means in D, and bilinear
interpolation in G. (Where pixels were repeated instead, a grid showed in the images of short training runs.)
D has no batch normalisation, as usual with a penalty on the slope at each image (Gulrajani et al. 2017,
arXiv:1704.00028, section 4). On 999 faces that is a disadvantage: the notebook's networks, whose D has it,
draw better at 64 pixels (benchmarks/LOG.md), and are what our recipes take.
"""

import math

from facegen import layers
from facegen.session import tf


def convolution(x, filters, kernel_size, recipe, *, stride=1, transposed=False, use_bias=True):
    """Return a convolution of x [batch, h, w, c] as [batch, h', w', filters].

    h' is h / stride, rounded up, or if `transposed` h * stride.
    """
    layer = tf.layers.conv2d_transpose if transposed else tf.layers.conv2d
    options = {'use_bias': use_bias, 'kernel_initializer': layers.initializer(recipe)}
    return layer(x, filters, kernel_size, stride, 'same', **options)


def down_block(x, filters, recipe):
    """Return features of half the size, [batch, ceil(h / 2), ceil(w / 2), filters], of x [batch, h, w, c].

    It is (s + r) / sqrt 2: the shortcut s is x averaged over 2x2 pixels and brought to `filters` features,
    the residual r what two convolutions make of x.
    """
    shortcut = tf.layers.average_pooling2d(x, 2, 2, 'same')
    shortcut = convolution(shortcut, filters, 1, recipe)
    x = tf.nn.leaky_relu(x, recipe.d_leak)
    x = convolution(x, x.shape[-1], 3, recipe)
    x = tf.nn.leaky_relu(x, recipe.d_leak)
    x = convolution(x, filters, recipe.kernel_size, recipe, stride=2)
    return (shortcut + x) / math.sqrt(2)


def activate(x, recipe, is_train):
    """Return the leaky ReLU of batch-normalised x; only G is normalised."""
    x = tf.layers.batch_normalization(x, momentum=layers.MOMENTUM, training=is_train)
    return tf.nn.leaky_relu(x, recipe.g_leak)


def up_block(x, filters, side, recipe, is_train):
    """Return features of twice the size, cropped to [batch, side, side, filters], of x [batch, h, w, c].

    It is (s + r) / sqrt 2: the shortcut s is x brought to `filters` features and enlarged by bilinear
    interpolation, the residual r what two convolutions make of x.
    """
    shortcut = convolution(x, filters, 1, recipe)
    doubled = [2 * size for size in x.shape.as_list()[1:3]]
    shortcut = tf.image.resize_bilinear(shortcut, doubled, half_pixel_centers=True)
    options = {'stride': 2, 'transposed': True, 'use_bias': False}  # batch norm has one
    x = convolution(activate(x, recipe, is_train), filters, recipe.kernel_size, recipe, **options)
    x = convolution(activate(x, recipe, is_train), filters, 3, recipe)
    return ((shortcut + x) / math.sqrt(2))[:, :side, :side]


def residual_discriminator(images, recipe):
    """Return the logits [batch, 1] of images [batch, h, w, c] in [-1, 1]."""
    first, *others = recipe.d_filters
    x = convolution(images, first, recipe.kernel_size, recipe, stride=2)
    for filters in others:
        x = down_block(x, filters, recipe)
        x = layers.dropout(x, recipe)
    x = tf.layers.flatten(tf.nn.leaky_relu(x, recipe.d_leak))
    return tf.layers.dense(x, 1, kernel_initializer=layers.initializer(recipe))


def residual_generator(z, out_channel_dim, is_train, recipe):
    """Return images [batch, side, side, out_channel_dim] in [-1, 1] of latents z [batch, z_dim]."""
    (side, filters), *doublings = layers.doublings(recipe)
    initializer = layers.initializer(recipe)
    x = layers.with_category(z, recipe)
    x = tf.layers.dense(x, side * side * filters, kernel_initializer=initializer)
    x = tf.reshape(x, [-1, side, side, filters])
    for side, filters in doublings:
        x = up_block(x, filters, side, recipe, is_train)
    return tf.tanh(convolution(activate(x, recipe, is_train), out_channel_dim, 3, recipe))
