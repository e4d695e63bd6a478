"""`tf.contrib.layers`, of which the notebooks use initialisers, layers and summaries.

Arguments and names of variables are those of TensorFlow 1, so that old checkpoints fit. Functions of
TensorFlow are bound here: what the classic checks replace on the module is the notebook's.
"""

from functools import partial
from types import ModuleType

import facegen.session  # isort: skip  # noqa: F401  # facegen goes before TensorFlow
import tensorflow.compat.v1 as tf  # isort: skip

variable_scope = tf.variable_scope
scalar_summary, histogram_summary = tf.summary.scalar, tf.summary.histogram
get_collection = tf.get_collection
flatten_layer, dropout_layer = tf.layers.flatten, tf.layers.dropout
Dense, Conv2D, Conv2DTranspose = tf.layers.Dense, tf.layers.Conv2D, tf.layers.Conv2DTranspose
BatchNormalization = tf.layers.BatchNormalization
zeros = tf.zeros_initializer()
RENAMED = {'kernel': 'weights', 'bias': 'biases'}  # in contrib, of what tf.layers has


def variance_scaling_initializer(
    factor=2.0, mode='FAN_IN', uniform=False, seed=None, dtype=tf.float32
):
    """Return an initializer of variance factor / fan: He et al. (2015) by default."""
    distribution = 'uniform' if uniform else 'truncated_normal'
    return tf.variance_scaling_initializer(factor, mode.lower(), distribution, seed, dtype)


def xavier_initializer(uniform=True, seed=None, dtype=tf.float32):
    """Return an initializer of variance 2 / (fan_in + fan_out): Glorot and Bengio (2010)."""
    return variance_scaling_initializer(1.0, 'FAN_AVG', uniform, seed, dtype)


def flatten(inputs, outputs_collections=None, scope=None):
    """Return `inputs` [batch, …] as [batch, the product of the rest]."""
    return flatten_layer(inputs, name=scope)


def dropout(inputs, keep_prob=0.5, noise_shape=None, is_training=True, **ignored):
    """Return `inputs` with a share of 1 - keep_prob set to zero, and the rest scaled up."""
    return dropout_layer(inputs, 1 - keep_prob, noise_shape, training=is_training)


def _renamed(getter, name, *arguments, **options):
    """Get a variable by contrib's name for it."""
    scope, _, last = name.rpartition('/')
    return getter(f'{scope}/{RENAMED.get(last, last)}', *arguments, **options)


def _layer(
    kind,
    default_name,
    inputs,
    num_outputs,
    *size,
    activation_fn=tf.nn.relu,
    normalizer_fn=None,
    normalizer_params=None,
    weights_initializer=None,
    weights_regularizer=None,
    biases_initializer=zeros,
    biases_regularizer=None,
    reuse=None,
    trainable=True,
    scope=None,
    **options,
):
    """Return activation_fn(normalizer_fn(layer(inputs))); a normalised layer has no biases."""
    with variable_scope(
        scope, default_name, [inputs], reuse=reuse, custom_getter=_renamed
    ) as variables:
        layer = kind(
            num_outputs,
            *size,
            use_bias=normalizer_fn is None and biases_initializer is not None,
            kernel_initializer=weights_initializer or xavier_initializer(),
            kernel_regularizer=weights_regularizer,
            bias_initializer=biases_initializer,
            bias_regularizer=biases_regularizer,
            trainable=trainable,
            _scope=variables,
            _reuse=reuse,
            **options,
        )
        outputs = layer.apply(inputs)
        if normalizer_fn is not None:
            outputs = normalizer_fn(outputs, **(normalizer_params or {}))
        return outputs if activation_fn is None else activation_fn(outputs)


fully_connected = partial(_layer, Dense, 'fully_connected')


def _convolution(kind, default_name, inputs, num_outputs, kernel_size, stride=1, padding='SAME',
                 **options):  # fmt: skip
    size = kernel_size, stride, padding
    return _layer(kind, default_name, inputs, num_outputs, *size, **options)


conv2d = convolution2d = partial(_convolution, Conv2D, 'Conv')
conv2d_transpose = convolution2d_transpose = partial(
    _convolution, Conv2DTranspose, 'Conv2d_transpose'
)


def batch_norm(
    inputs,
    decay=0.999,
    center=True,
    scale=False,
    epsilon=0.001,
    activation_fn=None,
    updates_collections=tf.GraphKeys.UPDATE_OPS,
    is_training=True,
    reuse=None,
    trainable=True,
    scope=None,
    fused=None,
):
    """Return normalised `inputs`; the averages are updated by UPDATE_OPS, or at once for None."""
    with variable_scope(scope, 'BatchNorm', [inputs], reuse=reuse) as variables:
        layer = BatchNormalization(
            momentum=decay,
            epsilon=epsilon,
            center=center,
            scale=scale,
            trainable=trainable,
            _scope=variables,
            _reuse=reuse,
        )
        outputs = layer.apply(inputs, training=is_training)
        if updates_collections is None:
            with tf.control_dependencies(layer.updates):
                outputs = tf.identity(outputs)
        return outputs if activation_fn is None else activation_fn(outputs)


def summarize_tensor(tensor, tag=None):
    """Add a summary of `tensor`: its value if it is a number, a histogram otherwise."""
    summarize = scalar_summary if tensor.shape.ndims == 0 else histogram_summary
    return summarize(tag or tensor.op.name, tensor)


def summarize_tensors(tensors, summarizer=summarize_tensor):
    """Add a summary of each tensor."""
    return [summarizer(tensor) for tensor in tensors]


def summarize_collection(collection, name_filter=None, summarizer=summarize_tensor):
    """Add a summary of each tensor of a collection of the graph."""
    return summarize_tensors(get_collection(collection, name_filter), summarizer)


def summarize_variables(name_filter=None, summarizer=summarize_tensor):
    """Add a summary of each variable."""
    return summarize_collection(tf.GraphKeys.GLOBAL_VARIABLES, name_filter, summarizer)


def _module(name, provided):
    """Return a module of the `provided` names, {name: value}, that says what else there is not."""
    module = ModuleType(f'tensorflow.{name}')
    module.__path__ = []
    module.__dict__.update(provided)

    def missing(attribute):
        if attribute.startswith('__'):
            raise AttributeError(attribute)
        raise AttributeError(
            f'tf.{name}.{attribute} is gone with TensorFlow 1, and facegen.legacy provides only '
            f'{", ".join(sorted(provided))}'
        )

    module.__getattr__ = missing
    return module


SUMMARIES = {
    'summarize_collection': summarize_collection,
    'summarize_tensor': summarize_tensor,
    'summarize_tensors': summarize_tensors,
    'summarize_variables': summarize_variables,
}
summaries = _module('contrib.layers.summaries', SUMMARIES)
layers = _module(
    'contrib.layers',
    {
        'batch_norm': batch_norm,
        'conv2d': conv2d,
        'conv2d_transpose': conv2d_transpose,
        'convolution2d': convolution2d,
        'convolution2d_transpose': convolution2d_transpose,
        'dropout': dropout,
        'flatten': flatten,
        'fully_connected': fully_connected,
        'summaries': summaries,
        'variance_scaling_initializer': variance_scaling_initializer,
        'xavier_initializer': xavier_initializer,
        'xavier_initializer_conv2d': xavier_initializer,
        **SUMMARIES,
    },
)
module = _module('contrib', {'layers': layers})


def modules():
    """Return {name: module}, for `from tensorflow.contrib.layers import …`."""
    return {each.__name__: each for each in (module, layers, summaries)}
