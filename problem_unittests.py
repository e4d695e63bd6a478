"""Checks of five of the notebook's functions; its test cells call them.

Each check runs a function with numbers, in a graph and a session of its own, and watches what it
does, never how it is written. A wrong function ends in an AssertionError that says what was
expected, what was seen and where to look; a right one prints `Tests Passed`. Apart from TF1 mode,
which the import sets, nothing outside a check is changed, also when it fails.
"""

import contextlib
import inspect
import re
from typing import NamedTuple

import numpy as np

from facegen.session import use_tf1  # isort: skip  # facegen goes before TensorFlow
import tensorflow.compat.v1 as tf  # isort: skip

use_tf1()

# Sides in pixels of the square images that networks may be written for, the exercise's first.
SIZES = (28, 32, 64, 128)
SQUARES = f'images are squares of {", ".join(map(str, SIZES[:-1]))} or {SIZES[-1]} pixels'

SIGNATURES = {
    'model_inputs': 'model_inputs(image_width, image_height, image_channels, z_dim)',
    'discriminator': 'discriminator(images, reuse=False)',
    'generator': 'generator(z, out_channel_dim, is_train=True)',
    'model_loss': 'model_loss(input_real, input_z, out_channel_dim)',
    'model_opt': 'model_opt(d_loss, g_loss, learning_rate, beta1)',
}

# What students' code raises; what else can happen, such as an interrupt, is not about their code.
STUDENT_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    RuntimeError,
    TypeError,
    ValueError,
    tf.errors.OpError,
)

# (function, pattern in the text of its error, what to do about it); the first match counts.
ADVICE = (
    *((name, rf'\b{name}\(\) (missing|takes|got)', f'The signature is {signature}')
      for name, signature in SIGNATURES.items()),
    ('model_loss', r'\b(discriminator|generator)\(\) (missing|takes|got)',
     f'The signatures are {SIGNATURES["discriminator"]} and {SIGNATURES["generator"]}'),
    ('model_loss', 'already exists',
     'A network is called for the first time twice: call the generator once, and the '
     'discriminator with reuse=True for the second images'),
    ('model_loss', 'does not exist',
     'A network is reused before its first call: call the generator with is_train=True, and the '
     'discriminator with reuse=True only for the second images'),
    ('discriminator', 'already exists',
     "The second call makes its variables again: put all layers in tf.variable_scope("
     "'discriminator', reuse=reuse)"),
    ('generator', 'already exists',
     "is_train=False makes its variables again: put all layers in tf.variable_scope('generator', "
     'reuse=not is_train)'),
    ('discriminator', 'does not exist',
     'The first call looks for variables of an earlier one: reuse must be False by default, and '
     'the layers of both calls must be the same'),
    ('generator', 'does not exist',
     'The call looks for variables that no earlier one made: is_train must be True by default, '
     'reuse=not is_train, and the layers of both calls the same'),
    ('model_opt', 'No variables to optimize|No gradients provided',
     "The list of variables is empty, or its loss does not depend on them: select them by "
     "v.name.startswith('discriminator/') and 'generator/', each for its own loss"),
    ('', r'\bcontrib\b', 'tf.contrib is gone: use tf.layers and tf.glorot_uniform_initializer()'),
    ('', "module 'tensorflow' has no attribute",
     'These functions need TF1 names: import tensorflow.compat.v1 as tf'),
    ('', 'same graph|not an element of this graph',
     'The function uses a tensor made outside: use only its arguments and what it makes itself'),
    ('', 'must feed a value',
     'The function makes a placeholder of its own: use the tensors it is given'),
    ('', 'is not defined',
     'Run the cell that defines that name first, or check its spelling'),
    ('', 'Negative dimension', "The image is smaller than the kernel: use padding='same'"),
    ('', 'Input to reshape|must be equal',
     'Sizes do not fit: print x.shape before this line; in tf.reshape, -1 is the batch size, and '
     f'{SQUARES}'),
    ('', "NoneType|'None'|None values",
     'Something is None: a function without return, or the batch size; reshape with -1'),
    ('', r'known|\(None\)|\bbatch\b',
     'The number of images is unknown while the graph is built: reshape with -1, and take no '
     'batch size, image size or number of channels as a fixed number'),
)  # fmt: skip


def _require(condition, message):
    # An assert statement would check nothing under `python -O`.
    if not condition:
        raise AssertionError(message)


def _call(call, function, *arguments, **options):
    """Return function(...); an error inside becomes an AssertionError that shows both."""
    try:
        return function(*arguments, **options)
    except STUDENT_ERRORS as error:
        if isinstance(error, AssertionError) and str(error):
            raise  # it explains itself, as those of the replaced networks do
        text = re.sub(r"^Graph execution error:(?s:.*?)\nNode: '.*'\n", '', str(error).strip())
        first_line = text.partition('\n')[0][:300].rstrip('.') or 'no text'
        advice = next(
            (
                advice
                for name, pattern, advice in ADVICE
                if name in call.partition('(')[0] and re.search(pattern, str(error))
            ),
            'The traceback of this error, above, shows the line',
        )
        message = f'{call} raised {type(error).__name__}: {first_line}. {advice}.'
        raise AssertionError(message) from error


@contextlib.contextmanager
def _session():
    """Open a new seeded graph and a session of it, which leaves a GPU and its memory alone."""
    config = tf.ConfigProto(device_count={'GPU': 0}, allow_soft_placement=True)
    # For graphs that run a few times, optimising takes longer than running.
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    with tf.Graph().as_default(), tf.Session(config=config) as sess:
        tf.set_random_seed(0)
        yield sess


def _initialize(sess, call, feed=None):
    initialize = tf.global_variables_initializer()
    _call(f'initialising the variables of {call}', sess.run, initialize, feed)


def _check_at_fitting_size(check, fits):
    """Run check(size) for images of 28 pixels or, where it fails, of the first size that fits; say so.

    `fits(sess, size)` returns whether the student's function runs at this size, or raises what the
    function does. Where 28 fits, or nothing, the error of 28 stands.
    """
    try:
        check(SIZES[0])
        print('Tests Passed')
        return
    except AssertionError:
        size = next((size for size in SIZES if _fits(fits, size)), SIZES[0])
        if size == SIZES[0]:
            raise
    try:
        check(size)
    except AssertionError as error:
        raise AssertionError(f'With images of {size}x{size} pixels, {error}').with_traceback(
            error.__traceback__
        ) from error.__cause__
    print('Tests Passed')
    print(f'(with images of {size}x{size} pixels; those of the exercise are 28x28)')


def _fits(fits, size):
    with _session() as sess, contextlib.suppress(*STUDENT_ERRORS):
        return fits(sess, size)


def _tensors(call, result, names):
    """Return `result` as a tuple of one tensor per name."""
    expected = f'{call} must return {len(names)} tensors ({", ".join(names)})'
    _require(isinstance(result, (tuple, list)), f'{expected}, but it returned {result!r}.')
    _require(len(result) == len(names), f'{expected}, but it returned {len(result)} values.')
    for name, tensor in zip(names, result, strict=True):
        _require_tensor(call, name, tensor)
    return tuple(result)


def _require_tensor(call, name, tensor):
    _require(
        isinstance(tensor, tf.Tensor),
        f'{call}: {name} must be a tensor, but it is a {type(tensor).__name__}.',
    )
    _require(
        tensor.graph is tf.get_default_graph(),
        f'{call}: {name} belongs to another graph: open none, make it in the current one.',
    )


def _uniform(seed, *shape):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def test_model_inputs(model_inputs):
    """Check `model_inputs`: float32 placeholders [None, h, w, c], [None, z_dim] and [].

    Raises AssertionError for a wrong number, order, rank, width or type, for a batch dimension
    that is not None, for arguments that are ignored, and for tensors that are no placeholders.
    """
    names = ('input_real', 'input_z', 'learning_rate')
    for size, channels, z_dim in ((28, 3, 100), (20, 1, 7)):
        call = f'model_inputs({size}, {size}, {channels}, {z_dim})'
        with _session():
            result = _call(call, model_inputs, size, size, channels, z_dim)
            inputs = _tensors(call, result, names)
            # Without a shape anything can be fed, a learning rate too.
            ranks = [tensor.shape.rank or 0 for tensor in inputs]
            _require(
                ranks == [4, 2, 0] or sorted(ranks) != [0, 2, 4],
                f'{call} returns its tensors in the wrong order: expected ({", ".join(names)}), '
                f'which have 4, 2 and 0 dimensions, but saw {ranks}.',
            )
            shapes = ([None, size, size, channels], [None, z_dim], [])
            for name, tensor, shape in zip(names, inputs, shapes, strict=True):
                _require_placeholder(call, name, tensor, shape)
    print('Tests Passed')


def _require_placeholder(call, name, tensor, shape):
    rank = tensor.shape.rank
    _require(
        rank == len(shape) or (rank is None and not shape),
        f'{call}: {name} must have {len(shape)} dimensions, {shape}, but its shape is '
        f'{tensor.shape}.',
    )
    seen = tensor.shape.as_list() if rank else []
    _require(
        not shape or seen[0] is None,
        f'{call}: the batch dimension of {name} must be None, so that any number of images '
        f'fits, but it is {seen[:1]}.',
    )
    _require(
        seen == shape,
        f'{call}: {name} must have the shape {shape}, but it has {seen}: take the sizes from the '
        'arguments, not from fixed numbers.',
    )
    _require(
        tensor.dtype == tf.float32,
        f'{call}: {name} must be float32, but it is {tensor.dtype.name}.',
    )
    _require(
        tensor.op.type in ('Placeholder', 'PlaceholderWithDefault'),
        f'{call}: {name} must be a placeholder, which is fed at every step, but it is made by '
        f'{tensor.op.type}: use tf.placeholder.',
    )


def test_discriminator(discriminator, tf_module):
    """Check `discriminator`: (probability, logits), both [batch, 1], probability = sigmoid(logits).

    It is checked with images of 28x28 or, where it is made for them, 32x32, 64x64 or 128x128.

    Raises AssertionError for wrong shapes, order or activation, for variables outside
    `discriminator/` or made again by reuse=True, for images or layers that do not count, for
    stacked layers without a non-linearity, and for batch norm that never learns its averages.
    `tf_module` is accepted for the sake of old notebooks and not used.
    """

    def check(size):
        with _session() as sess:
            _check_discriminator(sess, *_build_discriminator(sess, discriminator, size, 3))
        with _session() as sess:
            _build_discriminator(sess, discriminator, size, 1)

    def fits(sess, size):
        images = tf.placeholder(tf.float32, [None, size, size, 3])
        outputs = tf.nest.flatten(discriminator(images))
        sess.run(tf.global_variables_initializer())
        values = sess.run(outputs, {images: _uniform(0, 3, size, size, 3)})
        return all(len(value) == 3 for value in values)

    _check_at_fitting_size(check, fits)


def _build_discriminator(sess, discriminator, size, channels):
    """Return (call, images, others, outputs for images), once shapes and variables are right."""
    call = f'discriminator(images [None, {size}, {size}, {channels}])'
    again = call[:-1] + ', reuse=True)'
    names = ('probability', 'logits')
    images = tf.placeholder(tf.float32, [None, size, size, channels])
    others = tf.placeholder(tf.float32, [None, size, size, channels])

    first = _tensors(call, _call(call, discriminator, images), names)
    variables = _network_variables(call, 'discriminator')
    second = _tensors(again, _call(again, discriminator, others, reuse=True), names)
    _require_no_new_variables(again, variables, "tf.variable_scope('discriminator', reuse=reuse)")

    _initialize(sess, call)
    for batch_size in (3, 2):
        pixels = _uniform(batch_size, batch_size, size, size, channels)
        values = _call(
            f'running {again}', sess.run, first + second, {images: pixels, others: pixels}
        )
        for name, value in zip(names * 2, values, strict=True):
            _require_shape_and_finite(call, name, value, (batch_size, 1))

    _require_influence(call, 'logits', first[1], 'images', images)
    _require_influence(again, 'logits', second[1], 'images', others)
    return call, images, others, first


def _check_discriminator(sess, call, images, others, outputs):
    pixels = _uniform(0, 4, *images.shape[1:])
    feed = {images: pixels, others: pixels}
    low, high = _explore(sess, call, outputs[1], images, feed, -0.05, 1.05)
    _require_sigmoid(call, *sess.run(outputs, feed))
    _require(
        low < 0 and high > 1,
        f'{call}: the logits must be able to take any value, but with {_DRAWS} random sets of '
        f'weights they stay in [{low:.3g}, {high:.3g}]: return the last layer without an '
        'activation, before the sigmoid.',
    )
    _require_moving_averages(sess, call, outputs[1], feed, 'training=True')
    _require_nonlinear(sess, call, outputs[1], images)


def _require_sigmoid(call, probability, logits):
    """Require probability = sigmoid(logits), and name the usual mistakes."""

    def sigmoid(x):
        return np.exp(-np.logaddexp(0, -x))

    difference = np.abs(probability - sigmoid(logits)).max()
    if difference < 1e-3:
        return
    if np.allclose(logits, sigmoid(probability), atol=1e-3):
        problem = 'they are in the wrong order'
    elif np.allclose(probability, logits, atol=1e-6):
        problem = 'both are the same; the sigmoid belongs to the probability, and only there'
    else:
        problem = f'they differ by up to {difference:.3g}'
    raise AssertionError(
        f'{call} must return (probability, logits) with probability = tf.sigmoid(logits), but '
        f'{problem}. Return (tf.sigmoid(logits), logits), where logits is the last layer without '
        'an activation.'
    )


def test_generator(generator, tf_module):
    """Check `generator`: latents [batch, z_dim] to images [batch, 28, 28, channels] in [-1, 1].

    Images of 32x32, 64x64 and 128x128 are right too.

    Raises AssertionError for wrong shapes or ranges, for variables outside `generator/` or made
    again by is_train=False, for latents or layers that do not count, for batch norm that never
    learns its averages, and for an image that with is_train=False depends on chance or on the
    other latents. `tf_module` is accepted for the sake of old notebooks and not used.
    """

    def check(size):
        with _session() as sess:
            _check_generator(sess, *_build_generator(sess, generator, size, 3, 100))
        with _session() as sess:
            _build_generator(sess, generator, size, 1, 16)

    def fits(sess, size):
        z = tf.placeholder(tf.float32, [None, 100])
        images = generator(z, 3)
        sess.run(tf.global_variables_initializer())
        return sess.run(images, {z: _uniform(0, 3, 100)}).shape[1:3] == (size, size)

    _check_at_fitting_size(check, fits)


def _build_generator(sess, generator, size, channels, z_dim):
    """Return (call, preview_call, z, images, preview), once shapes and variables are right."""
    call = f'generator(z [None, {z_dim}], {channels})'
    preview_call = call[:-1] + ', is_train=False)'
    z = tf.placeholder(tf.float32, [None, z_dim])

    images = _call(call, generator, z, channels)
    _require_tensor(call, 'the result', images)
    variables = _network_variables(call, 'generator')
    preview = _call(preview_call, generator, z, channels, is_train=False)
    _require_tensor(preview_call, 'the result', preview)
    _require_no_new_variables(
        preview_call, variables, "tf.variable_scope('generator', reuse=not is_train)"
    )

    _initialize(sess, call)
    for batch_size in (3, 2):
        feed = {z: _uniform(batch_size, batch_size, z_dim)}
        for value in _call(f'running {preview_call}', sess.run, (images, preview), feed):
            shape = (batch_size, size, size, channels)
            sizes = '' if value.shape[1:3] == (size, size) else f' ({SQUARES})'
            _require_shape_and_finite(call, 'the result', value, shape, sizes)

    for text, output in ((call, images), (preview_call, preview)):
        _require_influence(text, 'the image', output, 'z', z)
    return call, preview_call, z, images, preview


def _check_generator(sess, call, preview_call, z, images, preview):
    feed = {z: _uniform(0, 4, *z.shape[1:])}
    _require_image_range(call, *_explore(sess, call, images, z, feed, -0.6, 0.6))
    _require_moving_averages(sess, call, images, feed, 'training=is_train')
    _require_preview(sess, preview_call, preview, z, feed)
    _require_nonlinear(sess, preview_call, tf.atanh(preview), z, limit=2.5)


def _require_image_range(call, low, high):
    """Require that the images fill [-1, 1] and do not leave it."""
    seen = f'{call}: images must fill the range [-1, 1], but with random weights they'
    _require(
        max(-low, high) < 1.001,
        f'{seen} reach [{low:.3g}, {high:.3g}]: end with tf.tanh.',
    )
    _require(
        low < 0,
        f'{seen} stay in [{low:.3g}, {high:.3g}], as after a sigmoid: end with tf.tanh.',
    )
    _require(
        low < -0.6 and high > 0.6,
        f'{seen} stay in [{low:.3g}, {high:.3g}]: end with tf.tanh, without scaling it. (Half of it suits '
        'a `train` that does not double its batches.)',
    )


def _require_preview(sess, call, preview, z, feed):
    """Require that a preview image is decided by its own latent alone."""
    together = sess.run(preview, feed)
    _require(
        np.allclose(together, sess.run(preview, feed), atol=1e-4),
        f'{call}: two runs on the same latents give different images: nothing may be random, '
        'so pass training=is_train to dropout.',
    )
    change = np.abs(together[:1] - sess.run(preview, {z: feed[z][:1]})).max()
    _require(
        change < 1e-3,
        f'{call}: an image changes by up to {change:.2g} with the other latents of its batch: '
        'pass training=is_train to batch norm.',
    )


def _network_variables(call, scope):
    """Return the names of all variables so far, which must lie in `scope`."""
    names = [v.name for v in tf.global_variables()]
    outside = [name for name in names if not name.startswith(f'{scope}/')]
    _require(tf.trainable_variables(), f'{call} makes no trainable variables: it has no layers.')
    _require(
        not outside,
        f"{call}: all variables must lie in the scope '{scope}/', but {outside[:1]} does not: put "
        f"all layers in tf.variable_scope('{scope}', ...).",
    )
    return names


def _require_no_new_variables(call, names, advice):
    new = [v.name for v in tf.global_variables() if v.name not in names]
    _require(
        not new,
        f'{call} must reuse the variables of the first call, but it makes {len(new)} new '
        f'variables, the first of them {new[:1]}: put all layers in {advice}.',
    )


def _require_shape_and_finite(call, name, value, shape, sizes=''):
    _require(
        value.shape == shape,
        f'{call}: {name} must have the shape {list(shape)} for a batch of {shape[0]}{sizes}, but '
        f'it has {list(value.shape)}.',
    )
    _require(
        np.isfinite(value).all(),
        f'{call}: {name} holds numbers that are not finite: look for divisions, roots and '
        'logarithms without a lower bound, and at the initial values.',
    )


def _require_influence(call, name, output, input_name, source):
    """Require a path from the input, and from every trainable variable, to the output."""
    _require(
        tf.gradients(output, source)[0] is not None,
        f'{call}: {name} does not depend on {input_name}: feed the first layer with it.',
    )
    variables = tf.trainable_variables()
    slopes = tf.gradients(output, variables)
    idle = [v.name for v, slope in zip(variables, slopes, strict=True) if slope is None]
    _require(
        not idle,
        f'{call}: {name} does not depend on {idle[:1]}: feed each layer with the result of the '
        'one before it.',
    )


_DRAWS = 12


def _randomize(sess, seed, gain):
    """Redraw all trainable weights, so that no zero among initial values hides what they do."""
    rng = np.random.default_rng(seed)
    variables = tf.trainable_variables()
    feed = {}
    for variable in variables:
        shape = variable.shape.as_list()
        fan_in = np.prod(shape[:-1], initial=1)
        value = rng.standard_normal(shape, np.float32) * np.float32(gain / np.sqrt(fan_in))
        feed[variable.initializer.inputs[1]] = value
    sess.run([variable.initializer for variable in variables], feed)


def _explore(sess, call, output, source, feed, low, high):
    """Return (lowest, highest) output over random weights; stops when below `low`, above `high`.

    Requires that the output reacts to every part of the last axis of `source`, and leaves weights
    of moderate size, so that what follows can see details.
    """
    slope = tf.gradients(tf.square(output), source)[0]
    lowest, highest = np.inf, -np.inf
    counts = np.zeros(source.shape[-1], bool)
    for seed in range(_DRAWS):
        _randomize(sess, seed, gain=(6, 1)[seed % 2])
        # Under a spectral norm only the input, not the weights, can make the output larger.
        scale = (1, 10)[seed // 2 % 2]
        values, slopes = sess.run([output, slope], {**feed, source: scale * feed[source]})
        lowest, highest = min(lowest, values.min()), max(highest, values.max())
        counts |= (slopes != 0).any(axis=tuple(range(slopes.ndim - 1)))
        if seed % 2 and lowest < low and highest > high and counts.all():
            break
    _require(
        counts.all(),
        f'{call}: {np.sum(~counts)} of the {len(counts)} numbers on the last axis of its input '
        'have no influence on the result: feed the first layer with all of the input.',
    )
    return lowest, highest


def _require_moving_averages(sess, call, output, feed, advice):
    """Require that batch norm's averages, if there are any, change in training."""
    averages = [v for v in tf.global_variables() if 'moving_' in v.name]
    before = sess.run(averages)
    sess.run([output, tf.get_collection(tf.GraphKeys.UPDATE_OPS)], feed)
    idle = [
        variable.name
        for variable, old, new in zip(averages, before, sess.run(averages), strict=True)
        if np.array_equal(old, new)
    ]
    _require(
        not idle,
        f'{call}: the moving average {idle[:1]} of batch norm does not change in training: pass '
        f'{advice} to tf.layers.batch_normalization, which keeps its updates in '
        'tf.GraphKeys.UPDATE_OPS.',
    )


def _require_nonlinear(sess, call, output, source, limit=np.inf):
    """Require that several layers are more than one linear map, where |output| < `limit`."""
    if sum(v.shape.rank >= 2 for v in tf.trainable_variables()) < 2:
        return
    a, b = _uniform(1, 2, *source.shape[1:]), _uniform(2, 2, *source.shape[1:])
    # One batch, so that batch norm treats all four alike.
    batch = np.concatenate([a, b, a + b, np.zeros_like(a)])
    values = np.split(sess.run(output, {source: batch}), 4)
    f_a, f_b, f_sum, f_zero = np.compress(
        (np.abs(values) < limit).all(axis=0).ravel(), np.reshape(values, [4, -1]), axis=1
    )
    bend = np.abs(f_a + f_b - f_sum - f_zero).max(initial=0)
    _require(
        bend >= 1e-3 * np.abs(f_a - f_b).max(initial=0),
        f'{call} is a linear function, up to its last activation, whatever the number of its '
        'layers: put a non-linearity, such as a leaky ReLU, between the layers.',
    )


def test_model_loss(model_loss):
    """Check `model_loss`: d_loss = H(1 - smoothing, D(x)) + H(0, D(G(z))), g_loss = H(1, D(G(z))).

    `discriminator` and `generator` are replaced meanwhile, so that the logits are known numbers;
    from the losses at several of them, where the other logits are 0, the label of each term can be
    read. Right are means over the batch with 0 <= smoothing <= 0.3; how the terms of d_loss are
    weighted is not checked. Other losses (least squares on logits, hinge, Wasserstein) pass where
    each of their terms pushes the right way and does not fade while the discriminator is surely
    wrong; relativistic ones, whose g_loss depends on the real images, are excluded.

    Raises AssertionError for other labels, signs and slopes, for labels and logits that are
    swapped, for a loss that is not one finite number or depends on the wrong images, and for
    networks that are called in a wrong way or get no gradient. Images are 28x28 or, for a function
    that demands them, 32x32, 64x64 or 128x128.
    """

    def check(size):
        for channels in (3, 1):
            with _session() as sess:
                _check_model_loss(sess, model_loss, size, channels)

    def fits(sess, size):
        input_real = tf.placeholder(tf.float32, [None, size, size, 3])
        input_z = tf.placeholder(tf.float32, [None, 10])
        with _replaced_networks(model_loss, size, 3):
            losses = model_loss(input_real, input_z, 3)
        sess.run(tf.global_variables_initializer())
        sess.run(losses, {input_real: _uniform(0, 4, size, size, 3), input_z: _uniform(0, 4, 10)})
        return True

    _check_at_fitting_size(check, fits)


_LOGIT_SCALE = 8  # keeps images and latents in [-1, 1] for logits up to 8


def _check_model_loss(sess, model_loss, size, channels):
    call = f'model_loss(input_real, input_z, {channels})'
    input_real = tf.placeholder(tf.float32, [None, size, size, channels])
    input_z = tf.placeholder(tf.float32, [None, 10])
    with _replaced_networks(model_loss, size, channels) as calls:
        result = _call(call, model_loss, input_real, input_z, channels)
    d_loss, g_loss = _tensors(call, result, ('d_loss', 'g_loss'))
    for name in ('generator', 'discriminator'):
        _require(name in calls, f'{call} must call {name}, by this name, but it does not.')
    names = {v.op.name: v for v in tf.trainable_variables()}
    _require(
        names.keys() == {'discriminator/weight', 'generator/weight'},
        f'{call} must leave the variables of the networks where they are and add none, but there '
        f'are {sorted(names)} now: open no variable scope around the networks.',
    )
    slopes = (
        *tf.gradients(d_loss, names['discriminator/weight']),
        *tf.gradients(g_loss, names['generator/weight']),
    )
    (on_real,), (on_fake,) = tf.gradients(g_loss, input_real), tf.gradients(d_loss, input_z)
    _initialize(sess, call)

    def run(fetches, real, fake, batch_size=4):
        pixels = np.full([batch_size, size, size, channels], real / _LOGIT_SCALE)
        latents = np.full([batch_size, 10], fake / _LOGIT_SCALE)
        feed = {input_real: pixels, input_z: latents}
        values = _call(f'running {call}', sess.run, fetches, feed)
        _require(
            all(np.isfinite(value).all() for value in values),
            f'{call}: a loss is not finite where the real logits are {real:g} and the fake ones '
            f'{fake:g}: use tf.nn.sigmoid_cross_entropy_with_logits.',
        )
        return values

    losses = (d_loss, g_loss)
    for name, small, large in zip(
        ('d_loss', 'g_loss'), run(losses, -1, 1), run(losses, -1, 1, batch_size=8), strict=True
    ):
        _require(
            np.shape(small) == (),
            f'{call}: {name} must be one number, but it has the shape {list(np.shape(small))}: '
            'average with tf.reduce_mean.',
        )
        _require(
            abs(large - small) <= 0.3 * abs(small),
            f'{call}: {name} grows with the batch, from {small:.3g} for 4 images to '
            f'{large:.3g} for 8: average with tf.reduce_mean instead of a sum.',
        )

    logits = np.arange(-6.0, 7.0)
    d_real, _ = np.transpose([run(losses, x, 0) for x in logits])
    d_fake, g_fake = np.transpose([run(losses, 0, x) for x in logits])
    _require_dependence(
        call,
        d_real=np.ptp(d_real) > 1e-4,
        d_fake=np.ptp(d_fake) > 1e-4 or on_fake is not None,
        g_real=on_real is not None and np.any(run([on_real], -1, 1)),
        g_fake=np.ptp(g_fake) > 1e-4,
    )
    _require_bends(call, d_real, d_fake, g_fake)
    _require_term(call, _REAL, logits, d_real)
    _require_term(call, _FAKE, logits, d_fake)
    _require_term(call, _GENERATOR, logits, g_fake)
    for name, slope in zip(('d_loss', 'g_loss'), slopes, strict=True):
        network = {'d_loss': 'discriminator', 'g_loss': 'generator'}[name]
        _require(
            slope is not None and run([slope], -4, 4 if name == 'd_loss' else -4) != [0],
            f'{call}: no gradient of {name} arrives at the {network}: remove tf.stop_gradient, '
            'rounding and comparisons on the way.',
        )


@contextlib.contextmanager
def _replaced_networks(model_loss, size, channels):
    """Replace the networks that `model_loss` calls; yield the set of names that were called.

    The logits of an image are its mean times the scale, and a generated image is as bright as
    the mean of its latent, so the inputs decide what the logits are.
    """
    calls = set()

    def generator(z, out_channel_dim, is_train=True, *arguments, **options):
        calls.add('generator')
        _require(
            out_channel_dim == channels,
            f'model_loss must hand its out_channel_dim, here {channels}, to the generator, but the '
            f'generator got {out_channel_dim!r}.',
        )
        _require(
            is_train,
            'model_loss must call the generator with is_train=True (the default), since its '
            f'images are for training, but the generator got is_train={is_train!r}.',
        )
        with tf.variable_scope('generator'):
            weight = tf.get_variable('weight', [], initializer=tf.ones_initializer())
        brightness = weight * tf.reduce_mean(z, 1)
        return tf.ones([size, size, channels]) * brightness[:, None, None, None]

    def discriminator(images, reuse=False, *arguments, **options):
        calls.add('discriminator')
        with tf.variable_scope('discriminator', reuse=reuse):
            scale = tf.constant_initializer(_LOGIT_SCALE)
            weight = tf.get_variable('weight', [], initializer=scale)
        logits = weight * tf.reduce_mean(images, [1, 2, 3])[:, None]
        return tf.sigmoid(logits), logits

    names = getattr(inspect.unwrap(model_loss), '__globals__', {})
    for name in ('discriminator', 'generator'):
        _require(
            name in names,
            f'model_loss must call a function {name} of its own notebook or module, but there is '
            f'none: define {name} at the top level, and run its cell first.',
        )
    originals = {name: names[name] for name in ('discriminator', 'generator')}
    names.update(discriminator=discriminator, generator=generator)
    try:
        yield calls
    finally:
        names.update(originals)


def _require_dependence(call, *, d_real, d_fake, g_real, g_fake):
    """Require that d_loss depends on real and fake logits, and g_loss on fake ones alone."""
    _require(
        d_real or not (d_fake and g_real and g_fake),
        f'{call} returns its losses in the wrong order: expected (d_loss, g_loss), but the first '
        'depends only on fake images and the second on real ones too.',
    )
    _require(
        d_real,
        f'{call}: d_loss does not depend on the real images: add the cross-entropy of '
        'D(input_real) with the label 1.',
    )
    _require(
        d_fake,
        f'{call}: d_loss does not depend on the fake images of input_z: add the cross-entropy of '
        'D(G(input_z)) with the label 0.',
    )
    _require(
        not g_real,
        f'{call}: g_loss depends on the real images, which the generator cannot change: use '
        'only the logits of the fake ones, with the label 1.',
    )
    _require(
        g_fake,
        f'{call}: g_loss does not depend on the fake images of input_z: use the cross-entropy of '
        'D(G(input_z)) with the label 1.',
    )


def _require_bends(call, d_real, d_fake, g_fake):
    """Require that no loss is a straight line, as a cross-entropy is in its labels.

    Wasserstein's losses are straight too, but 0 on average, or rise with the fake logits.
    """

    def is_straight(losses):
        return np.ptp(np.diff(losses)) < 0.02 and abs(np.mean(losses)) > 0.1

    is_critic = is_straight(d_fake) and d_fake[0] < d_fake[-1] - 0.1
    for name, swapped in (
        ('d_loss', (is_straight(d_real) or is_straight(d_fake)) and not is_critic),
        ('g_loss', is_straight(g_fake)),
    ):
        _require(
            not swapped,
            f'{call}: {name} is a straight line in the logits: labels and logits are swapped in '
            'tf.nn.sigmoid_cross_entropy_with_logits, whose logits come from the discriminator.',
        )


class _Term(NamedTuple):
    """One term of a loss: which labels are right, and which way it pushes the logits."""

    name: str
    labels: tuple[float, float]
    push: int
    mistakes: tuple[tuple[int, float, float, str], ...]  # sign, labels from, to, what to do


_SWAPPED = 'real and fake images or labels are swapped; real is 1, fake is 0'
_REAL = _Term(
    "d_loss's term for real images",
    (0.7, 1.0),
    1,
    (
        (1, -0.1, 0.35, _SWAPPED),
        (1, 0.35, 0.7, 'smoothing goes too far; a label of 0.9 is usual'),
        (1, 1.0, 2.0, 'a label is a probability; smoothing makes it smaller than 1'),
        (-1, -9, 9, 'it has the wrong sign: the discriminator minimises the cross-entropy'),
    ),
)
_FAKE = _Term(
    "d_loss's term for fake images",
    (0.0, 0.0),
    -1,
    (
        (1, 0.0, 0.5, 'smooth only the labels of real images'),
        (1, 0.5, 1.1, _SWAPPED),
        (-1, -9, 9, 'it has the wrong sign: the discriminator minimises the cross-entropy'),
    ),
)
_GENERATOR = _Term(
    'g_loss',
    (1.0, 1.0),
    1,
    (
        (1, 0.5, 1.0, 'smooth only the labels of real images, in d_loss'),
        (1, -0.1, 0.5, 'the generator wants its images to be taken for real ones'),
        (-1, -0.5, 0.5, 'log(1 - D(G(z))) saturates: it teaches least when D rejects surely'),
        (-1, -9, 9, 'it has the wrong sign: the generator minimises the cross-entropy'),
    ),
)


def _require_term(call, term, logits, losses):
    """Require the right cross-entropy, or another loss that pushes as well as it does."""
    weight, label = _cross_entropy_fit(logits, losses)
    if weight is None:
        slopes = np.diff(losses)[:: term.push] * term.push  # from surely wrong to surely right
        _require(
            slopes[0] <= 0.9 * slopes[5] < 0,
            f'{call}: {term.name} has a slope of {slopes[0]:.3g} where the logits are surely '
            f'wrong and {slopes[5]:.3g} where they are undecided, so it pushes the wrong way or '
            'fades: use tf.nn.sigmoid_cross_entropy_with_logits, and give it logits, not '
            'probabilities.',
        )
        return
    low, high = term.labels
    if weight > 0 and low - 0.01 < label < high + 0.01:
        return
    problem = next(
        (advice for sign, start, stop, advice in term.mistakes
         if sign * weight > 0 and start <= label <= stop),
        'check its labels',
    )  # fmt: skip
    expected = f'{high:g}' if low == high else f'between {low:g} and {high:g}'
    raise AssertionError(
        f'{call}: {term.name} must be a cross-entropy of the logits with the label {expected}, '
        f'but it is {weight:.2f} times the one with the label {round(label, 2) + 0.0:g}: '
        f'{problem}.'
    )


def _cross_entropy_fit(logits, losses):
    """Return (weight, label) of losses = weight * H(label, sigmoid(logits)) + constant.

    (None, None) if the losses have another shape. H(label, sigmoid(x)) = softplus(x) - label * x.
    """
    columns = np.stack([np.logaddexp(0, logits), -logits, np.ones_like(logits)], axis=1)
    solution = np.linalg.lstsq(columns, losses, rcond=None)[0]
    weight, weighted_label, _ = solution
    if np.abs(columns @ solution - losses).max() > 0.01 or abs(weight) < 0.01:
        return None, None
    return weight, weighted_label / weight


def test_model_opt(model_opt, tf_module):
    """Check `model_opt`: (d_train_opt, g_train_opt), one Adam step on each network's own variables.

    The losses are linear, so that every gradient is known: Adam's first step moves all variables
    by the same amount, in proportion to the learning rate, and its second step, with the gradient
    reversed, by (1 - beta1) / (1 + beta1) of it.

    Raises AssertionError for a step that moves wrong variables, or none, or the wrong way, that
    ignores the learning rate or beta1, that is not Adam's, and for updates of batch norm that run
    with neither step.
    `tf_module` is accepted for the sake of old notebooks and not used.
    """
    fast = _steps(model_opt, 0.01, as_placeholder=True)
    slow = _steps(model_opt, 0.001, as_placeholder=False)
    for steps in (fast, slow):
        _require_own_variables(steps)
    for player in _PLAYERS:
        _require_adam(player, fast[player.step], slow[player.step])
    _require_updates(fast)
    print('Tests Passed')


class _Player(NamedTuple):
    step: str
    loss: str
    scope: str
    gradient: np.ndarray


# No sign pattern is that of the other, of the sum or of the difference.
_PLAYERS = (
    _Player('d_train_opt', 'd_loss', 'discriminator', np.float32([3, 0.5, -2, -0.3])),
    _Player('g_train_opt', 'g_loss', 'generator', np.float32([0.4, -2, 0.6, -3])),
)
_VARIABLES = ('discriminator/first', 'discriminator/second', 'generator/first', 'generator/second')
_UPDATES = (
    'discriminator/batch_normalization',
    'discriminator_1/batch_normalization',
    'generator/batch_normalization',
)
_BETA1 = 0.3


class _Step(NamedTuple):
    """What one training operation does in two runs from zero, the second with -gradient."""

    first: dict  # variable name: how far it moved
    second: dict
    updates: dict  # update name: how often it ran in the first run


def _steps(model_opt, learning_rate, *, as_placeholder):
    """Return {'d_train_opt': _Step, 'g_train_opt': _Step} of `model_opt` on linear losses."""
    kind = 'placeholder' if as_placeholder else learning_rate
    call = f'model_opt(d_loss, g_loss, {kind}, {_BETA1})'
    with _session() as sess:
        zeros = tf.zeros_initializer()
        variables = {name: tf.get_variable(name, [4], initializer=zeros) for name in _VARIABLES}
        counters = {name: _counted_update(name) for name in _UPDATES}
        direction = tf.placeholder_with_default(1.0, [])
        total = direction * tf.add_n(list(variables.values()))
        d_loss, g_loss = (tf.reduce_sum(player.gradient * total) for player in _PLAYERS)
        rate = tf.placeholder(tf.float32, []) if as_placeholder else learning_rate
        result = _call(call, model_opt, d_loss, g_loss, rate, _BETA1)
        _require(
            isinstance(result, (tuple, list)) and len(result) == 2,
            f'{call} must return two operations (d_train_opt, g_train_opt), but it returned '
            f'{result!r}.',
        )
        feed = {rate: learning_rate} if as_placeholder else {}

        def watch(name, step):
            _initialize(sess, call, feed)
            _call(f'running {name} of {call}', sess.run, step, feed)
            first, updates = sess.run((variables, counters))
            _call(f'running {name} of {call}', sess.run, step, {**feed, direction: -1})
            second = sess.run(variables)
            return _Step(first, {key: second[key] - first[key] for key in first}, updates)

        names = [player.step for player in _PLAYERS]
        return {name: watch(name, step) for name, step in zip(names, result, strict=True)}


def _counted_update(name):
    """Register an update as batch norm does, and return a variable that counts its runs."""
    counter = tf.get_variable(
        f'{name}/moving_mean', [], initializer=tf.zeros_initializer(), trainable=False
    )
    with tf.name_scope(f'{name}/'):
        update = counter.assign_add(1, read_value=False)
    tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, update)
    return counter


def _require_own_variables(steps):
    """Require that each step moves all variables of its own network and no others."""
    moved = {
        step: {name for name, move in steps[step].first.items() if move.any()} for step in steps
    }
    own = {
        player.step: {name for name in _VARIABLES if name.startswith(f'{player.scope}/')}
        for player in _PLAYERS
    }
    _require(
        list(moved.values()) != list(own.values())[::-1],
        'model_opt returns its steps in the wrong order: expected (d_train_opt, g_train_opt), but '
        'the first moves the generator and the second the discriminator.',
    )
    for player in _PLAYERS:
        select = f"select variables by v.name.startswith('{player.scope}/') and pass var_list"
        strangers = sorted(moved[player.step] - own[player.step])
        _require(
            not strangers,
            f"model_opt: {player.step} must move only variables in '{player.scope}/', but it "
            f'moves {strangers}: {select}.',
        )
        idle = sorted(own[player.step] - moved[player.step])
        _require(
            not idle,
            f'model_opt: {player.step} must move all trainable variables in '
            f"'{player.scope}/', but {idle} stay where they are: {select}.",
        )


def _require_adam(player, fast, slow):
    """Require descent on the player's loss by Adam with the given learning rate and beta1."""
    (other,) = (gradient for _, _, scope, gradient in _PLAYERS if scope != player.scope)
    for name in (f'{player.scope}/first', f'{player.scope}/second'):
        move = fast.first[name]
        signs = np.sign(move)
        what = f'model_opt: {player.step} must minimise {player.loss}, but it'
        _require(
            not np.array_equal(signs, np.sign(player.gradient)),
            f'{what} goes uphill: the sign of the gradient is wrong.',
        )
        _require(
            not np.array_equal(signs, -np.sign(other)),
            f'{what} minimises the loss of the other network: look for swapped losses.',
        )
        _require(
            np.array_equal(signs, -np.sign(player.gradient)),
            f'{what} minimises something else, such as a mixture of both losses.',
        )
        sizes = np.abs(move)
        _require(
            sizes.max() < 1.05 * sizes.min(),
            f'model_opt: {player.step} is not a step of Adam, whose first step moves all variables '
            f'by the same amount, but it moves them by {sizes.min():.2g} to {sizes.max():.2g}: '
            'use tf.train.AdamOptimizer.',
        )
        ratio = sizes.mean() / np.abs(slow.first[name]).mean()
        _require(
            9 < ratio < 11,
            f'model_opt: {player.step} ignores the learning rate: a rate ten times larger, 0.01 '
            f'after 0.001, must make its first step ten times larger, but it is {ratio:.3g} times '
            'as large: hand learning_rate to the optimiser.',
        )
        back = np.mean(-fast.second[name] / move)
        beta1 = (1 - back) / (1 + back)
        _require(
            abs(beta1 - _BETA1) < 0.05,
            f'model_opt: {player.step} ignores beta1: expected {_BETA1}, but its second step is '
            f'that of beta1 = {beta1:.2f}: hand beta1 to tf.train.AdamOptimizer.',
        )


def _require_updates(steps):
    """Require that updates of batch norm in each network run, with whichever step."""
    ran = {name for step in steps.values() for name, runs in step.updates.items() if runs}
    scopes = {name.split('/')[0].removesuffix('_1') for name in ran}
    for player in _PLAYERS:
        _require(
            player.scope in scopes,
            f'model_opt: neither step runs the updates of batch norm in the {player.scope}: make '
            f'{player.step} under tf.control_dependencies(tf.get_collection('
            f"tf.GraphKeys.UPDATE_OPS, '{player.scope}')).",
        )
