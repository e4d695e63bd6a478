"""The checks find what is wrong, let pass what is right, and leave nothing behind."""

import re
import time
import types

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import problem_unittests as checks

pytestmark = pytest.mark.filterwarnings('ignore:`tf.layers:UserWarning')

REFERENCE = """
import tensorflow.compat.v1 as tf

def model_inputs(image_width, image_height, image_channels, z_dim):
    real_shape = [None, image_height, image_width, image_channels]
    input_real = tf.placeholder(tf.float32, real_shape)
    input_z = tf.placeholder(tf.float32, [None, z_dim])
    learning_rate = tf.placeholder(tf.float32, [])
    return input_real, input_z, learning_rate

def norm(x, training):
    return tf.nn.leaky_relu(tf.layers.batch_normalization(x, training=training))

def discriminator(images, reuse=False):
    with tf.variable_scope('discriminator', reuse=reuse):
        first = tf.nn.leaky_relu(tf.layers.conv2d(images, 4, 5, 2, 'same'))
        second = norm(tf.layers.conv2d(first, 8, 5, 2, 'same'), True)
        flat = tf.reshape(second, [-1, 7 * 7 * 8])
        logits = tf.layers.dense(flat, 1)
        return tf.sigmoid(logits), logits

def generator(z, out_channel_dim, is_train=True):
    with tf.variable_scope('generator', reuse=not is_train):
        x = tf.reshape(tf.layers.dense(z, 7 * 7 * 8), [-1, 7, 7, 8])
        x = norm(x, is_train)
        x = norm(tf.layers.conv2d_transpose(x, 4, 5, 2, 'same'), is_train)
        x = tf.layers.conv2d_transpose(x, out_channel_dim, 5, 2, 'same')
        return tf.tanh(x)

def cross_entropy(logits, label):
    labels = tf.fill(tf.shape(logits), label)
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits))

def model_loss(input_real, input_z, out_channel_dim):
    fake = generator(input_z, out_channel_dim)
    real_probability, real_logits = discriminator(input_real)
    fake_probability, fake_logits = discriminator(fake, reuse=True)
    d_real = cross_entropy(real_logits, 0.9)
    d_fake = cross_entropy(fake_logits, 0.0)
    g_loss = cross_entropy(fake_logits, 1.0)
    d_loss = d_real + d_fake
    return d_loss, g_loss

def model_opt(d_loss, g_loss, learning_rate, beta1):
    d_vars = [v for v in tf.trainable_variables() if v.name.startswith('discriminator/')]
    g_vars = [v for v in tf.trainable_variables() if v.name.startswith('generator/')]
    d_updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS, 'discriminator')
    g_updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS, 'generator')
    with tf.control_dependencies(d_updates):
        d_step = tf.train.AdamOptimizer(learning_rate, beta1).minimize(d_loss, var_list=d_vars)
    with tf.control_dependencies(g_updates):
        g_step = tf.train.AdamOptimizer(learning_rate, beta1).minimize(g_loss, var_list=g_vars)
    return d_step, g_step
"""

# (function, text of the reference, what a student wrote instead, what the message must hold)
# fmt: off
MUTANTS = [
    ('model_inputs', '[None, z_dim]', '[None, z_dim, 1]', 'input_z must have 2 dimensions'),
    ('model_inputs', '[None, z_dim]', '[z_dim]', 'input_z must have 2 dimensions'),
    ('model_inputs', '[None, z_dim]', '[None, 100]', 'input_z.*not from fixed numbers'),
    ('model_inputs', '[None, z_dim]', '[64, z_dim]', 'batch dimension of input_z must be None'),
    ('model_inputs', '[None, z_dim]', 'None', 'input_z must have 2.*unknown'),
    ('model_inputs', '[None, image_', '[64, image_', 'batch dimension of input_real'),
    ('model_inputs', 'image_channels]', '3]', 'input_real.*not from fixed numbers'),
    ('model_inputs', 'image_height, image_width, i', '28, 28, i', 'input_real.*fixed numbers'),
    ('model_inputs', 'image_channels]', 'z_dim]', r'input_real.*28, 3\].*28, 100\]'),
    ('model_inputs', ', image_channels]', ']', 'input_real must have 4 dimensions'),
    ('model_inputs', 'tf.float32, real', 'tf.int32, real', 'input_real must be float32.*int32'),
    ('model_inputs', 'tf.float32, [])', 'tf.float64, [])', 'learning_rate must be float32'),
    ('model_inputs', 'tf.float32, [])', 'tf.float32, [None])', 'learning_rate must have 0'),
    ('model_inputs', 'tf.float32, real_shape', 'tf.float32', 'input_real must have 4.*unknown'),
    ('model_inputs', 'tf.placeholder(tf.float32, [])', 'tf.constant(0.1)', 'placeholder.*Const'),
    ('model_inputs', 'tf.placeholder(tf.float32, [])', '0.1', 'must be a tensor.*float'),
    ('model_inputs', 'input_real, input_z, l', 'input_z, input_real, l', 'wrong order.*2, 4, 0'),
    ('model_inputs', 'input_z, learning_rate\n', 'input_z\n', '3 tensors.*returned 2'),
    ('model_inputs', 'return', 'result =', 'returned None'),
    ('model_inputs', ', z_dim):', '):', r'signature is model_inputs\('),
    ('model_inputs', 'tf.placeholder', 'tf.place', 'AttributeError'),

    ('discriminator', 'reuse=reuse', 'reuse=False', 'already exists.*reuse=reuse'),
    ('discriminator', 'reuse=reuse', 'reuse=None', 'already exists.*reuse=reuse'),
    ('discriminator', 'reuse=False)', 'reuse=True)', 'reuse must be False by default'),
    ('discriminator', 'reuse=False)', 'reuse)', r'signature is discriminator\('),
    ('discriminator', ', reuse=False):', '):\n    reuse = False', r'signature is discriminator\('),
    ('discriminator', "'discriminator'", "'discriminater'",
     "scope 'discriminator/'.*discriminater"),
    ('discriminator', "tf.variable_scope('discriminator', reuse=reuse)",
     "tf.name_scope('discriminator')",
     "scope 'discriminator/'"),
    ('discriminator', "'discriminator', reuse=reuse",
     "'discriminator/b' if reuse else 'discriminator/a'", 'makes 10 new variables'),
    ('discriminator', 'tf.sigmoid(logits), logits', 'logits, tf.sigmoid(logits)', 'wrong order'),
    ('discriminator', 'tf.sigmoid(logits), logits', 'logits, logits', 'both are the same'),
    ('discriminator', 'tf.sigmoid(logits), logits', '(tf.sigmoid(logits),) * 2',
     'both are the same'),
    ('discriminator', 'tf.sigmoid(logits), logits', 'tf.tanh(logits), logits', 'differ by up to'),
    ('discriminator', 'tf.sigmoid(logits), logits', 'tf.nn.softmax(logits), logits', 'differ by'),
    ('discriminator', 'tf.sigmoid(logits), logits', 'logits', 'must return 2 tensors'),
    ('discriminator', 'dense(flat, 1)', 'dense(flat, 1, tf.sigmoid)', r'stay in \[.*activation'),
    ('discriminator', 'dense(flat, 1)', 'dense(flat, 1, tf.tanh)', r'stay in \[.*activation'),
    ('discriminator', 'dense(flat, 1)', 'dense(flat, 1, tf.nn.relu)', r'stay in \[.*activation'),
    ('discriminator', 'dense(flat, 1)', 'dense(flat, 2)',
     r'probability must have the shape \[3, 1\]'),
    ('discriminator', 'dense(flat, 1)', 'dense(second, 1)', r'\[3, 1\].*\[3, 7, 7, 1\]'),
    ('discriminator', 'dense(flat, 1)', 'dense(flat, 1)[:, 0]', r'\[3, 1\].*\[3\]'),
    ('discriminator', 'dense(flat, 1)', 'dense(flat, 1) / 0.0', 'not finite'),
    ('discriminator', '[-1, 7 * 7 * 8]', '[64, 7 * 7 * 8]', 'Input to reshape.*batch size'),
    ('discriminator', '[-1, 7 * 7 * 8]', '[images.shape[0], 7 * 7 * 8]', 'reshape with -1'),
    ('discriminator', '[-1, 7 * 7 * 8]', '[-1, 7 * 8]', r'\[3, 1\].*\[21, 1\]'),
    ('discriminator', 'conv2d(images,', 'conv2d(tf.ones_like(images),',
     'does not depend on images'),
    ('discriminator', 'conv2d(images,', 'conv2d(images[..., :1],',
     '2 of the 3 numbers.*no influence'),
    ('discriminator', 'conv2d(images,', 'conv2d(images * [0.0],',
     '3 of the 3 numbers.*no influence'),
    ('discriminator', 'conv2d(first, 8, 5, 2', 'conv2d(images, 8, 5, 4',
     'depend on.*conv2d/kernel'),
    ('discriminator', 'first = tf.nn.leaky_relu(',
     'norm = lambda x, training: x\n        first = (', 'linear function'),
    ('discriminator', 'first = tf.nn.leaky_relu(',
     'norm = lambda x, training: tf.layers.batch_normalization(x, training=training)\n'
     '        first = (', 'linear function'),
    ('discriminator', "'same'), True)", "'same'), False)", 'moving average.*training=True'),
    ('discriminator', 'tf.nn.leaky_relu(', '(lambda x: None)(', 'without return'),
    ('discriminator', "8, 5, 2, 'same'", '8, 15', "Negative dimension.*padding='same'"),
    ('discriminator', '[-1, 7 * 7 * 8]', '[-1, 7 * 7 * 9]', 'Input to reshape.*print x.shape'),
    ('discriminator', 'tf.layers.dense(flat, 1)', "tf.matmul(flat, tf.get_variable('w', [9, 1]))",
     'must be equal.*print x.shape'),
    ('discriminator', 'tf.layers.dense(flat', 'tf.contrib.layers.linear(flat', 'contrib is gone'),
    ('discriminator', 'first =', 'import tensorflow.contrib\n        first =',
     'ModuleNotFoundError.*contrib is gone'),
    ('discriminator', 'first =', 'assert images.shape[0] == 64\n        first =',
     'AssertionError: no text.*shows the line'),

    ('generator', ' = norm(', ' = (lambda x, _: x)(', 'linear function'),
    ('generator', 'tf.tanh(x)', 'tf.sigmoid(x)', 'as after a sigmoid'),
    ('generator', 'tf.tanh(x)', 'x', r'reach \[.*end with tf.tanh'),
    ('generator', 'tf.tanh(x)', 'tf.nn.relu(x)', r'reach \[.*end with tf.tanh'),
    ('generator', 'tf.tanh(x)', 'tf.tanh(x) / 2', 'without scaling'),
    ('generator', 'tf.tanh(x)', 'tf.tanh(x), x', 'must be a tensor.*tuple'),
    ('generator', 'tf.tanh(x)', 'tf.log(x - x)', 'not finite'),
    ('generator', "'generator'", "'gen'", "scope 'generator/'.*gen/"),
    ('generator', 'reuse=not is_train', 'reuse=False', 'already exists.*reuse=not is_train'),
    ('generator', ', reuse=not is_train', '', 'already exists.*reuse=not is_train'),
    ('generator', 'reuse=not is_train', 'reuse=is_train', 'is_train must be True by default'),
    ('generator', "'generator', reuse=not is_train", "'generator/a' if is_train else 'generator/b'",
     'makes 14 new variables'),
    ('generator', 'is_train=True)', 'is_train)', r'signature is generator\('),
    ('generator', 'is_train=True)', 'training=True, is_train=False)', 'is_train must be True'),
    ('generator', ', is_train=True):', '):\n    is_train = True', r'signature is generator\('),
    ('generator', '(x, out_channel_dim', '(x, 3', r'28, 1\].*28, 3\]'),
    ('generator', 'out_channel_dim, 5, 2', 'out_channel_dim, 5, 1', r'28, 28, 3\].*14, 14, 3\]'),
    ('generator', 'x, 4, 5, 2', 'x, 4, 5, 4', r'28, 28, 3\].*56, 56, 3\]'),
    ('generator', 'dense(z,', 'dense(tf.ones_like(z),', 'does not depend on z'),
    ('generator', 'dense(z,', 'dense(z * 0,', '100 of the 100 numbers.*no influence'),
    ('generator', 'dense(z,', 'dense(z[:, :10],', '90 of the 100 numbers.*no influence'),
    ('generator', '[-1, 7, 7, 8]', '[64, 7, 7, 8]', 'Input to reshape.*batch size'),
    ('generator', '[-1, 7, 7, 8]', '[z.shape[0], 7, 7, 8]', 'reshape with -1'),
    ('generator', "norm(x, is_train)", 'norm(x, True)', 'other latents.*training=is_train'),
    ('generator', ', is_train)', ', True)', 'other latents.*training=is_train'),
    ('generator', ', is_train)', ', False)', 'moving average.*training=is_train'),
    ('generator', ', is_train)', ', not is_train)', 'other latents.*training=is_train'),
    ('generator', 'norm(x, is_train)', 'tf.layers.dropout(x, training=True)', 'two runs.*dropout'),
    ('generator', 'tf.tanh(x)', 'tf.tanh(x + tf.random.normal(tf.shape(x)))', 'two runs'),

    ('model_loss', 'real_logits, 0.9', 'real_logits, 0.0', 'real images.*swapped'),
    ('model_loss', 'real_logits, 0.9', 'real_logits, 0.5', 'smoothing goes too far'),
    ('model_loss', 'real_logits, 0.9', 'real_logits, 1.1', 'smaller than 1'),
    ('model_loss', 'fake_logits, 0.0', 'fake_logits, 1.0', 'fake images.*swapped'),
    ('model_loss', 'fake_logits, 0.0', 'fake_logits, 0.1', 'smooth only.*real'),
    ('model_loss', 'fake_logits, 1.0', 'fake_logits, 0.9', 'g_loss.*smooth only.*real'),
    ('model_loss', 'fake_logits, 1.0', 'fake_logits, 0.0', 'g_loss.*taken for real'),
    ('model_loss', 'fake_logits, 1.0', 'real_logits, 1.0', 'g_loss depends on the real'),
    ('model_loss', 'g_loss = cross', 'g_loss = -cross', 'g_loss.*wrong sign'),
    ('model_loss', 'cross_entropy(fake_logits, 1.0)', '-d_fake', 'g_loss.*saturates'),
    ('model_loss', 'cross_entropy(fake_logits, 1.0)',
     'tf.reduce_mean(tf.log(1 - fake_probability))',
     'g_loss.*saturates'),
    ('model_loss', 'd_loss = d_real + d_fake', 'd_loss = -(d_real + d_fake)', 'd_loss.*wrong sign'),
    ('model_loss', 'd_real + d_fake', 'd_real - d_fake', 'fake images.*wrong sign'),
    ('model_loss', 'd_real + d_fake', 'd_real', 'd_loss does not depend on the fake'),
    ('model_loss', 'd_real + d_fake', 'd_fake', 'd_loss does not depend on the real'),
    ('model_loss', 'd_real + d_fake', 'd_real, d_fake', 'd_loss must be a tensor'),
    ('model_loss', 'return d_loss, g_loss', 'return g_loss, d_loss', 'wrong order'),
    ('model_loss', 'cross_entropy(fake_logits, 0', 'cross_entropy(real_logits, 0',
     'not depend on the fake'),
    ('model_loss', 'discriminator(input_real)', 'discriminator(input_real * 0)',
     'not depend on the real'),
    ('model_loss', 'generator(input_z,', 'generator(tf.zeros_like(input_z),', 'input_z'),
    ('model_loss', 'discriminator(input_real)', 'discriminator(fake)', 'not depend on the real'),
    ('model_loss', 'real_logits, 0.9', 'real_probability, 0.9', 'real images.*not probabilities'),
    ('model_loss', 'fake_logits, 0.0', 'fake_probability, 0.0', 'fake images.*not probabilities'),
    ('model_loss', 'fake_logits, 1.0', 'fake_probability, 1.0', 'g_loss.*not probabilities'),
    ('model_loss', 'cross_entropy(', 'swapped(', 'd_loss.*labels and logits are swapped'),
    ('model_loss', 'cross_entropy(real', 'swapped(real', 'd_loss.*labels and logits are swapped'),
    ('model_loss', 'cross_entropy(fake_logits, 0.0', 'swapped(fake_logits, 0.0',
     'd_loss.*labels and logits are swapped'),
    ('model_loss', 'cross_entropy(fake_logits, 1.0', 'swapped(fake_logits, 1.0',
     'g_loss.*labels and logits are swapped'),
    ('model_loss', 'd_real + d_fake', 'tf.reduce_mean(real_logits - fake_logits)', 'wrong way'),
    ('model_loss', 'out_channel_dim)\n    real', '3)\n    real', 'hand its out_channel_dim'),
    ('model_loss', 'generator(input_z, out_channel_dim)',
     'generator(input_z, out_channel_dim, False)',
     'is_train=True'),
    ('model_loss', '(fake, reuse=True)', '(fake)', 'discriminator with reuse=True'),
    ('model_loss', '(input_real)', '(input_real, reuse=True)', 'reused before its first call'),
    ('model_loss', '(fake, r', '(generator(input_z, out_channel_dim), r', 'first time twice'),
    ('model_loss', '(fake, r', '(tf.stop_gradient(fake), r', 'no gradient of g_loss'),
    ('model_loss', 'fake = g', 'with tf.variable_scope("loss"):\n        fake = g',
     'open no variable'),
    ('model_loss', 'g_loss = cross_entropy(fake_logits, 1.0)',
     'g_loss = tf.nn.softplus(-fake_logits)', r'g_loss must be one number.*\[4, 1\]'),
    ('model_loss', 'g_loss = cross_entropy(fake_logits, 1.0)',
     'g_loss = tf.reduce_sum(tf.nn.softplus(-fake_logits))', 'g_loss grows with the batch'),
    ('model_loss', 'fake = generator', 'fake = generators', "NameError.*Run the cell"),
    ('model_loss', 'return', 'losses =', 'must return 2 tensors'),
    ('model_loss', 'd_loss = d_real', 'd_loss = tf.log(-d_real)', 'not finite'),

    ('model_opt', 'd_loss, var_list=d_vars', 'd_loss', 'd_train_opt must move only.*var_list'),
    ('model_opt', 'g_loss, var_list=g_vars', 'g_loss', 'g_train_opt must move only.*var_list'),
    ('model_opt', 'var_list=g_vars', 'var_list=d_vars', "g_train_opt.*'generator/'.*moves"),
    ('model_opt', "v.name.startswith('generator/')", "'genarator' in v.name", 'is empty'),
    ('model_opt', "startswith('generator/')]", "startswith('generator/')][1:]",
     'generator/first.*stay'),
    ('model_opt', 'return d_step, g_step', 'return g_step, d_step', 'steps in the wrong order'),
    ('model_opt', 'return d_step, g_step', 'return d_step, d_step', 'g_train_opt must move only'),
    ('model_opt', 'return d_step, g_step', 'return (tf.group(d_step, g_step),) * 2',
     'd_train_opt must'),
    ('model_opt', 'return d_step, g_step', 'return d_step', 'two operations'),
    ('model_opt', 'return d_step, g_step', 'return d_step, None', 'g_train_opt.*TypeError'),
    ('model_opt', 'minimize(d_loss', 'minimize(-d_loss', 'd_loss.*uphill'),
    ('model_opt', 'minimize(g_loss', 'minimize(-g_loss', 'g_loss.*uphill'),
    ('model_opt', 'minimize(d_loss', 'minimize(g_loss', 'd_loss.*swapped'),
    ('model_opt', 'minimize(g_loss', 'minimize(d_loss', 'g_loss.*swapped'),
    ('model_opt', 'minimize(g_loss', 'minimize(d_loss + g_loss', 'g_loss.*mixture'),
    ('model_opt', 'minimize(g_loss', 'minimize(g_loss - d_loss', 'g_loss.*mixture'),
    ('model_opt', 'learning_rate, beta1).minimize(d', '0.0002, beta1).minimize(d',
     'd.*ignores the learning'),
    ('model_opt', 'learning_rate, beta1).minimize(g', '0.0002, beta1).minimize(g',
     'g.*ignores the learning'),
    ('model_opt', 'learning_rate, beta1).minimize(d', 'beta1, learning_rate).minimize(d',
     'learning rate'),
    ('model_opt', 'learning_rate, beta1).minimize(d', 'learning_rate).minimize(d', 'beta1 = 0.90'),
    ('model_opt', 'learning_rate, beta1).minimize(g', 'learning_rate, 0.5).minimize(g',
     'beta1 = 0.50'),
    ('model_opt', 'learning_rate, beta1).minimize(g', 'learning_rate, beta2=beta1).minimize(g',
     'beta1'),
    ('model_opt', 'AdamOptimizer(learning_rate, beta1).minimize(d',
     'GradientDescentOptimizer(learning_rate).minimize(d', 'd_train_opt is not a step of Adam'),
    ('model_opt', 'AdamOptimizer(learning_rate, beta1).minimize(g',
     'RMSPropOptimizer(learning_rate).minimize(g', 'g_train_opt is not a step of Adam'),
    ('model_opt', 'tf.control_dependencies(d_updates)', "tf.name_scope('d')",
     'updates of batch norm in the discriminator'),
    ('model_opt', 'tf.control_dependencies(g_updates)', "tf.name_scope('g')",
     'updates of batch norm in the generator'),
    ('model_opt', 'control_dependencies(d_updates)', 'control_dependencies(g_updates)',
     'updates of batch norm in the discriminator'),
    ('model_opt', 'tf.GraphKeys.UPDATE_OPS', "'no_updates'", 'updates of batch norm'),
]

# (what is different, function, text of the reference, what stands there instead)
VARIANTS = [
    ('a default learning rate', 'model_inputs', 'tf.placeholder(tf.float32, [])',
     'tf.placeholder_with_default(2e-4, [])'),
    ('an extra keyword argument', 'model_inputs', 'z_dim):', 'z_dim, *, dtype=tf.float32):'),
    ('a list', 'model_inputs', 'input_real, input_z, learning_rate\n',
     '[input_real, input_z, learning_rate]\n'),
    ('no shape', 'model_inputs', 'tf.float32, [])', "tf.float32, name='learning_rate')"),
    ('names', 'model_inputs', 'tf.float32, []', "tf.float32, shape=(), name='learning_rate'"),

    ('an extra keyword argument', 'discriminator', 'reuse=False)', 'reuse=False, *, recipe=None)'),
    ('reuse by itself', 'discriminator', 'reuse=reuse', 'reuse=tf.AUTO_REUSE'),
    ('no norm', 'discriminator', 'norm(', '(lambda x, _: tf.nn.relu(x))('),
    ('layer norm', 'discriminator', 'norm(', '(lambda x, _: tf.nn.elu(layer_norm(x)))('),
    ('dropout in both calls', 'discriminator', 'norm(',
     '(lambda x, on: tf.layers.dropout(tf.nn.relu(x), training=on))('),
    ('noise on images', 'discriminator', 'conv2d(images,',
     'conv2d(images + tf.random.normal(tf.shape(images)),'),
    ('a third convolution', 'discriminator', 'tf.reshape(second, [-1, 7 * 7 * 8])',
     "tf.layers.flatten(norm(tf.layers.conv2d(second, 8, 5, 2, 'same'), True))"),
    ('max pooling', 'discriminator', "conv2d(images, 4, 5, 2, 'same')",
     "max_pooling2d(tf.layers.conv2d(images, 4, 5, 1, 'same'), 2, 2)"),
    ('the mean of the last maps', 'discriminator', 'tf.reshape(second, [-1, 7 * 7 * 8])',
     'tf.reduce_mean(second, [1, 2])'),
    ('a last layer that starts at zero', 'discriminator', 'dense(flat, 1)',
     'dense(flat, 1, kernel_initializer=tf.zeros_initializer())'),
    ('a last layer without bias', 'discriminator', '(flat, 1)', '(flat, 1, use_bias=False)'),
    ('one dense layer', 'discriminator', 'first = ', """
        logits = dense(tf.layers.flatten(images), 1)
        return tf.sigmoid(logits), logits
        first = """),
    ('bounded weights and no biases', 'discriminator', 'first = ', """
        x = tf.nn.leaky_relu(bounded(tf.layers.flatten(images), 16))
        logits = bounded(x, 1)
        return tf.sigmoid(logits), logits
        first = """),
    ('tf.get_variable layers', 'discriminator', 'tf.layers.dense(flat, 1)', 'dense(flat, 1)'),
    ('a sigmoid by hand', 'discriminator', 'tf.sigmoid(logits)', '1 / (1 + tf.exp(-logits))'),
    ('minibatch statistics', 'discriminator', 'dense(flat, 1)',
     'dense(tf.concat([flat, tf.ones_like(flat) * tf.math.reduce_std(flat)], 1), 1)'),

    ('an extra keyword argument', 'generator', 'is_train=True)', 'is_train=True, *, recipe=None)'),
    ('an extra argument', 'generator', 'is_train=True)', 'is_train=True, alpha=0.2)'),
    ('no norm', 'generator', 'norm(', '(lambda x, _: tf.nn.relu(x))('),
    ('layer norm', 'generator', 'norm(', '(lambda x, _: tf.nn.relu(layer_norm(x)))('),
    ('dropout in training', 'generator', 'norm(x, is_train)',
     'tf.layers.dropout(tf.nn.relu(x), training=is_train)'),
    ('a tensor for is_train', 'generator', ', is_train)', ', tf.constant(is_train))'),
    ('reuse by itself', 'generator', 'reuse=not is_train', 'reuse=tf.AUTO_REUSE'),
    ('a larger kernel', 'generator', '(x, 4, 5, 2', '(x, 16, 7, 2'),
    ('resized images', 'generator', 'tf.layers.conv2d_transpose(x, 4, 5, 2,',
     'tf.layers.conv2d(tf.image.resize_nearest_neighbor(x, [14, 14]), 4, 5, 1,'),
    ('another way to [-1, 1]', 'generator', 'tf.tanh(x)', '2 * tf.sigmoid(x) - 1'),
    ('clipping to [-1, 1]', 'generator', 'tf.tanh(x)', 'tf.clip_by_value(x, -1, 1)'),
    ('a last layer that starts at zero', 'generator', 'out_channel_dim, 5, 2, ',
     'out_channel_dim, 5, 2, kernel_initializer=tf.zeros_initializer(), padding='),
    ('one dense layer', 'generator', 'return tf.tanh(x)', """
        x = tf.layers.dense(tf.layers.flatten(x), 28 * 28 * out_channel_dim)
        return tf.tanh(tf.reshape(x, [-1, 28, 28, out_channel_dim]))"""),
    ('tf.get_variable layers', 'generator', 'tf.layers.dense(z, 7 * 7 * 8)', 'dense(z, 392)'),

    ('no smoothing', 'model_loss', 'real_logits, 0.9', 'real_logits, 1.0'),
    ('much smoothing', 'model_loss', 'real_logits, 0.9', 'real_logits, 0.7'),
    ('noisy labels', 'model_loss', 'real_logits, 0.9',
     'real_logits, tf.random.uniform([], 0.8, 1)'),
    ('the mean of both terms', 'model_loss', 'd_real + d_fake', '(d_real + d_fake) / 2'),
    ('an extra keyword argument', 'model_loss', 'channel_dim):', 'channel_dim, *, smoothing=0.1):'),
    ('positional arguments', 'model_loss', 'reuse=True', 'True'),
    ('positional is_train', 'model_loss', 'r(input_z, out_channel_dim)',
     'r(input_z, out_channel_dim, True, 0.2)'),
    ('keyword arguments', 'model_loss', 'r(input_z, out_channel_dim)',
     'r(z=input_z, out_channel_dim=out_channel_dim, recipe=None)'),
    ('discriminator keywords', 'model_loss', '(input_real)', '(images=input_real, recipe=None)'),
    ('logarithms of probabilities', 'model_loss', 'cross_entropy(fake_logits, 1.0)',
     '-tf.reduce_mean(tf.log(fake_probability + 1e-8))'),
    ('one batch of both', 'model_loss', 'd_real = cross', """
    logits = discriminator(tf.concat([input_real, fake], 0), reuse=True)[1]
    real_logits, fake_logits = tf.split(logits, 2)
    d_real = cross"""),
    ('noise on all images', 'model_loss', 'discriminator(',
     '(lambda x, reuse=False: discriminator(x + tf.random.normal(tf.shape(x)) / 10, reuse))('),
    ('no gradient for the generator in d_loss', 'model_loss', 'd_real + d_fake',
     'd_real + cross_entropy(discriminator(tf.stop_gradient(fake), reuse=True)[1], 0.0)'),
    ('a gradient penalty', 'model_loss', 'd_real + d_fake',
     'd_real + d_fake + tf.reduce_sum(tf.gradients(real_logits, input_real)[0] ** 2)'),
    ('least squares', 'model_loss', 'd_real + d_fake\n', """(
        tf.reduce_mean((real_logits - 1) ** 2) + tf.reduce_mean(fake_logits ** 2))
    g_loss = tf.reduce_mean((fake_logits - 1) ** 2)
"""),
    ('hinge', 'model_loss', 'd_real + d_fake\n', """(
        tf.reduce_mean(tf.nn.relu(1 - real_logits)) + tf.reduce_mean(tf.nn.relu(1 + fake_logits)))
    g_loss = -tf.reduce_mean(fake_logits)
"""),
    ('Wasserstein', 'model_loss', 'd_real + d_fake\n', """(
        tf.reduce_mean(fake_logits) - tf.reduce_mean(real_logits))
    g_loss = -tf.reduce_mean(fake_logits)
"""),
    ('Wasserstein with a gradient penalty', 'model_loss', 'd_loss = d_real + d_fake\n', """
    slopes = tf.gradients(real_logits, input_real)[0]
    d_loss = (
        tf.reduce_mean(fake_logits) - tf.reduce_mean(real_logits)
        + tf.reduce_mean(10 * (tf.norm(tf.layers.flatten(slopes), axis=1) - 1) ** 2))
    g_loss = -tf.reduce_mean(fake_logits)
"""),

    ('an extra keyword argument', 'model_opt', 'beta1):', 'beta1, *, recipe=None):'),
    ('names with a word in them', 'model_opt', "v.name.startswith('discriminator/')",
     "'disc' in v.name"),
    ('names with another word in them', 'model_opt', "v.name.startswith('generator/')",
     "'gen' in v.name"),
    ('all but the discriminator', 'model_opt', "v.name.startswith('generator/')",
     "not v.name.startswith('discriminator/')"),
    ('updates of the first use', 'model_opt', "UPDATE_OPS, 'discriminator'",
     "UPDATE_OPS, 'discriminator/'"),
    ('all updates with d_train_opt', 'model_opt', 'with tf.control_dependencies(d_updates)',
     'd_updates, g_updates = d_updates + g_updates, []\n'
     '    with tf.control_dependencies(d_updates)'),
    ('all updates with g_train_opt', 'model_opt', 'with tf.control_dependencies(d_updates)',
     'd_updates, g_updates = [], d_updates + g_updates\n'
     '    with tf.control_dependencies(d_updates)'),
    ('one dependency for both', 'model_opt', "UPDATE_OPS, 'discriminator'", 'UPDATE_OPS'),
    ('all updates with either', 'model_opt', "tf.get_collection(tf.GraphKeys.UPDATE_OPS, ",
     '(lambda _: tf.get_collection(tf.GraphKeys.UPDATE_OPS))('),
    ('variables of a collection', 'model_opt',
     "[v for v in tf.trainable_variables() if v.name.startswith('generator/')]",
     "tf.get_collection(tf.GraphKeys.TRAINABLE_VARIABLES, 'generator')"),
    ('tf.group', 'model_opt', 'return d_step, g_step',
     'return tf.group(d_step, *d_updates), tf.group(g_step)'),
    ('a tensor', 'model_opt', 'return d_step,', """
    with tf.control_dependencies([d_step]):
        d_step = tf.identity(d_loss)
    return d_step,"""),
    ('a step counter', 'model_opt', 'minimize(d_loss,',
     'minimize(d_loss, global_step=tf.train.get_or_create_global_step(),'),
    ('both gradients first', 'model_opt', 'return d_step, g_step', """
    d_adam, g_adam = (tf.train.AdamOptimizer(learning_rate, beta1) for _ in range(2))
    d_slopes = d_adam.compute_gradients(d_loss, d_vars)
    g_slopes = g_adam.compute_gradients(g_loss, g_vars)
    slopes = [slope for slope, _ in d_slopes + g_slopes]
    with tf.control_dependencies(slopes + tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        return d_adam.apply_gradients(d_slopes), g_adam.apply_gradients(g_slopes)"""),
    ('clipped gradients', 'model_opt', 'return d_step, g_step', """
    adam = tf.train.AdamOptimizer(learning_rate, beta1)
    slopes, _ = tf.clip_by_global_norm(tf.gradients(g_loss, g_vars), 1.0)
    with tf.control_dependencies(g_updates):
        return d_step, adam.apply_gradients(zip(slopes, g_vars))"""),
    ('an average of the generator', 'model_opt', 'return d_step, g_step', """
    with tf.control_dependencies([g_step]):
        return d_step, tf.train.ExponentialMovingAverage(0.999).apply(g_vars)"""),
    ('a faster discriminator', 'model_opt', 'learning_rate, beta1).minimize(d',
     '2 * learning_rate, beta1).minimize(d'),
]
# fmt: on

LAYERS = """
def dense(x, size):
    kernel = tf.get_variable('kernel', [x.shape[1], size])
    return tf.matmul(x, kernel) + tf.get_variable('bias', [size])

def bounded(x, size):
    kernel = tf.get_variable(f'kernel_{size}', [x.shape[1], size])
    return tf.matmul(x, kernel / tf.norm(kernel))

def layer_norm(x):
    mean, variance = tf.nn.moments(x, [1, 2, 3], keepdims=True)
    scale = tf.get_variable(f'scale_{x.shape[1]}', [x.shape[-1]])
    return tf.nn.batch_normalization(x, mean, variance, None, scale, 1e-5)

def swapped(labels, logit):
    logits = tf.fill(tf.shape(labels), logit)
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits))
"""
DCGAN = """
def discriminator(images, reuse=False):
    with tf.variable_scope('discriminator', reuse=reuse):
        x = images
        for size, stride in (64, 2), (128, 1), (256, 2), (512, 1), (512, 2):
            x = norm(tf.layers.conv2d(x, size, 5, stride, 'same'), True)
        logits = tf.layers.dense(tf.layers.flatten(x), 1)
        return tf.sigmoid(logits), logits

def generator(z, out_channel_dim, is_train=True):
    with tf.variable_scope('generator', reuse=not is_train):
        x = tf.reshape(tf.layers.dense(z, 7 * 7 * 1024), [-1, 7, 7, 1024])
        for size, stride in (512, 1), (256, 2), (128, 2):
            x = tf.layers.conv2d_transpose(norm(x, is_train), size, 5, stride, 'same')
        x = tf.layers.conv2d_transpose(norm(x, is_train), out_channel_dim, 5, 1, 'same')
        return tf.tanh(x)
"""

# Networks of one size, whose smallest maps are 4x4.
SIZED = """
def discriminator(images, reuse=False):
    with tf.variable_scope('discriminator', reuse=reuse):
        x = tf.nn.leaky_relu(tf.layers.conv2d(images, 4, 5, 2, 'same'))
        for _ in range(HALVINGS - 1):
            x = norm(tf.layers.conv2d(x, 4, 5, 2, 'same'), True)
        logits = tf.layers.dense(tf.reshape(x, [-1, 4 * 4 * 4]), 1)
        return tf.sigmoid(logits), logits

def generator(z, out_channel_dim, is_train=True):
    with tf.variable_scope('generator', reuse=not is_train):
        x = tf.reshape(tf.layers.dense(z, 4 * 4 * 8), [-1, 4, 4, 8])
        for _ in range(HALVINGS - 1):
            x = tf.layers.conv2d_transpose(norm(x, is_train), 8, 5, 2, 'same')
        x = tf.layers.conv2d_transpose(norm(x, is_train), out_channel_dim, 5, 2, 'same')
        return tf.tanh(x)
"""
HALVINGS = {32: 3, 64: 4, 128: 5}

# Like MUTANTS, in networks and a loss for 64x64.
# fmt: off
MUTANTS_64 = [
    ('discriminator', 'tf.sigmoid(logits), logits', 'logits, logits', 'both are the same'),
    ('discriminator', 'tf.sigmoid(logits), logits', 'logits', 'must return 2 tensors'),
    ('discriminator', '4]), 1)', '4]), 2)', r'probability must have the shape \[3, 1\]'),
    ('discriminator', "'discriminator'", "'disc'", "scope 'discriminator/'"),
    ('discriminator', "'same'), True)", "'same'), False)", 'moving average.*training=True'),
    ('discriminator', 'x = tf.nn.leaky_relu(', 'norm = lambda x, training: x\n        x = (',
     'linear function'),

    ('generator', 'tf.tanh(x)', 'x', r'reach \[.*end with tf.tanh'),
    ('generator', "'generator'", "'gen'", "scope 'generator/'"),
    ('generator', 'reuse=not is_train', 'reuse=False', 'already exists.*reuse=not is_train'),
    ('generator', ', is_train)', ', True)', 'other latents.*training=is_train'),
    ('generator', 'norm(x, is_train)', 'x', 'linear function'),
    ('generator', '(x, is_train), out_channel_dim', '(x, is_train), 3', r'64, 1\].*64, 3\]'),

    ('model_loss', 'fake = g', 'assert input_real.shape[1] == 64\n    input_z *= 0\n    fake = g',
     'fake images of input_z'),
]

# (function, text of a network for 64x64, what makes its images another size, what is said)
OTHER_SIZES = [
    ('generator', '[-1, 4, 4, 8]', '[-1, 2, 8, 8]', r'32, 64 or 128 pixels.*\[3, 32, 128, 3\]'),
    ('generator', 'tf.tanh(x)', 'tf.tanh(x[:, :30, :30])',
     r'squares of 28, 32, 64 or 128 pixels.*\[3, 30, 30, 3\]'),
    ('discriminator', 'images, 4, 5', 'tf.reshape(images, [-1, 30, 30, images.shape[-1]]), 4, 5',
     'squares of 28, 32, 64 or 128 pixels'),
    ('discriminator', '4 * 4 * 4', '3 * 3 * 4', 'squares of 28, 32, 64 or 128 pixels'),
]
# fmt: on

FUNCTIONS = ('model_inputs', 'discriminator', 'generator', 'model_loss', 'model_opt')


def student(function, old='', new='', source=REFERENCE):
    """Return a module of `source` whose (last) `function` holds `new` in place of `old`."""
    before, name, body = source.rpartition(f'def {function}(')
    body, end, after = body.partition('\ndef ')
    assert old in body
    module = types.ModuleType('student')
    source = before + name + body.replace(old, new) + end + after
    exec(LAYERS + source, module.__dict__)
    return module


def check(module, function):
    """Run the check of `function` as a cell of the notebook does."""
    with_tf = function in ('discriminator', 'generator', 'model_opt')
    arguments = (tf,) if with_tf else ()
    getattr(checks, f'test_{function}')(getattr(module, function), *arguments)


@pytest.mark.parametrize(('function', 'old', 'new', 'message'), MUTANTS)
def test_a_wrong_function_is_named(function, old, new, message):
    with pytest.raises(AssertionError, match=f'(?s){message}'):
        check(student(function, old, new), function)


@pytest.mark.parametrize(
    ('function', 'old', 'new'),
    [row[1:] for row in VARIANTS],
    ids=[f'{row[1]}: {row[0]}' for row in VARIANTS],
)
def test_a_different_but_right_function_passes(function, old, new, capsys):
    check(student(function, old, new), function)
    assert capsys.readouterr().out == 'Tests Passed\n'


def sized(size, function, old='', new=''):
    module = student(function, old, new, source=REFERENCE + SIZED)
    module.HALVINGS = HALVINGS[size]
    return module


@pytest.mark.parametrize('size', HALVINGS)
@pytest.mark.parametrize('function', ['discriminator', 'generator'])
def test_networks_may_be_made_for_larger_images(function, size, capsys):
    check(sized(size, function), function)
    first, *rest = capsys.readouterr().out.splitlines()
    assert first == 'Tests Passed'
    if (function, size) == ('discriminator', 32):  # halved three times, both 28 and 32 end at 4
        assert rest == []
    else:
        assert rest == [f'(with images of {size}x{size} pixels; those of the exercise are 28x28)']


@pytest.mark.parametrize(
    ('old', 'new'),
    [
        ('fake = g', 'assert input_real.shape[1:3] == (64, 64)\n    fake = g'),
        ('(input_real)', '(input_real + tf.random.normal([64, 64, 1]) / 10)'),
        ('(fake,', '(tf.reshape(fake, [-1, 64, 64, out_channel_dim]),'),
    ],
)
def test_model_loss_may_demand_larger_images(old, new, capsys):
    check(student('model_loss', old, new), 'model_loss')
    # Four fakes of 32x32, reshaped as the third asks for, are one of 64x64
    assert re.match(
        r'Tests Passed\n\(with images of (32x32|64x64) pixels; ', capsys.readouterr().out
    )


@pytest.mark.parametrize(('function', 'old', 'new', 'message'), MUTANTS_64)
def test_a_wrong_function_for_larger_images_is_named_with_their_size(function, old, new, message):
    with pytest.raises(AssertionError, match=f'(?s)With images of 64x64 pixels, .*{message}'):
        check(sized(64, function, old, new), function)


@pytest.mark.parametrize(('function', 'old', 'new', 'message'), OTHER_SIZES)
def test_images_of_another_size_are_told_which_are_right(function, old, new, message):
    with pytest.raises(AssertionError, match=f'(?s){message}'):
        check(sized(64, function, old, new), function)


@pytest.mark.parametrize(
    ('function', 'old', 'new', 'message'),
    [
        ('discriminator', '[-1, 7 * 7 * 8]', '[-1, 7 * 7 * 9]',
         r'^running discriminator\(images \[None, 28, 28, 3\].*Input to reshape'),
        ('discriminator', 'tf.reshape(second, [-1, 7 * 7 * 8])',
         'second[:, 0, 0]\n        return (tf.layers.dense(flat, 1),) * 2',
         r'^discriminator\(images \[None, 28, 28, 3\].*both are the same'),
        ('generator', 'tf.tanh(x)', 'x', r'^generator\(z \[None, 100\], 3\): images must fill'),
    ],
)  # fmt: skip
def test_a_wrong_network_for_28_pixels_or_any_size_gets_the_error_of_28(
    function, old, new, message
):
    with pytest.raises(AssertionError, match=f'(?s){message}'):
        check(student(function, old, new), function)


def cpu_seconds(work, *arguments):
    start = time.process_time()  # other processes stretch the wall-clock time
    work(*arguments)
    return time.process_time() - start


def pass_through_both_networks(module):
    """Build the networks and run them once, forwards and backwards."""
    with tf.Graph().as_default(), tf.Session() as sess:
        images = module.generator(tf.zeros([4, 100]), 3)
        logits = module.discriminator(images)[1]
        slopes = tf.gradients(logits, tf.trainable_variables())
        sess.run(tf.global_variables_initializer())
        sess.run(slopes)


@pytest.fixture(scope='module')
def pass_seconds():
    module = student('model_loss', source=REFERENCE + DCGAN)
    pass_through_both_networks(module)  # the first one of a process takes longer
    return cpu_seconds(pass_through_both_networks, module)


@pytest.mark.parametrize('function', FUNCTIONS)
def test_a_check_of_networks_of_full_size_is_fast(function, pass_seconds, capsys):
    """As fast as six passes, which take some seconds, on a machine of any speed."""
    module = student(function, source=REFERENCE + DCGAN)
    assert cpu_seconds(check, module, function) < 6 * pass_seconds
    assert capsys.readouterr().out == 'Tests Passed\n'


@pytest.mark.parametrize('wrong', [False, True])
@pytest.mark.parametrize('function', FUNCTIONS)
def test_a_check_leaves_nothing_behind(function, wrong):
    module = student(function, 'return', 'return 1 / 0,' if wrong else 'return')
    before = dict(vars(module))
    random_state = np.random.get_state()[1].tolist()  # noqa: NPY002
    with tf.Graph().as_default() as graph:
        if wrong:
            with pytest.raises(AssertionError, match='ZeroDivisionError'):
                check(module, function)
        else:
            check(module, function)
        assert tf.get_default_graph() is graph
        assert graph.get_operations() == []
        assert graph.collections == []
    assert before.items() <= vars(module).items()
    assert np.random.get_state()[1].tolist() == random_state  # noqa: NPY002
    assert not tf.executing_eagerly()


def test_an_error_inside_a_function_stays_visible():
    module = student('discriminator', "'same'", "'some'")
    with pytest.raises(AssertionError, match=r'ValueError.*some') as caught:
        check(module, 'discriminator')
    assert isinstance(caught.value.__cause__, ValueError)


def test_model_loss_without_networks_to_replace():
    module = student('model_loss')
    del module.generator
    with pytest.raises(AssertionError, match='define generator at the top level'):
        check(module, 'model_loss')


def test_model_loss_that_calls_other_networks():
    module = student('model_loss', 'generator(', 'sampler(')
    module.sampler = module.generator
    with pytest.raises(AssertionError, match='must call generator, by this name'):
        check(module, 'model_loss')
