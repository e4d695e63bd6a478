"""Averages of a network's weights over training, which draw steadier images than its last ones."""

from contextlib import contextmanager

from facegen.session import tf


def average_weights(train_op, variables, recipe):
    """Return (op that trains and then averages, context in which the averages are read).

    Each of `variables` w has an average a <- d a + (1 - d) w, with d = 2^(-batch_size / half_life)
    and less early on, so that the first weights are soon forgotten (Yazıcı et al. 2019,
    arXiv:1806.04498). They should hold the batch-norm statistics too, so that these fit the weights.
    In the context, a network that reuses its variables gets their averages instead. Without a
    half-life the op comes back as it is and the context changes nothing.
    """
    if not recipe.ema_half_life:
        return train_op, reading(lambda variable: variable)
    step = tf.get_variable('average_step', [], tf.int32, tf.zeros_initializer(), trainable=False)
    with tf.control_dependencies([train_op]):
        count = step.assign_add(1)
    decay = 0.5 ** (recipe.batch_size / recipe.ema_half_life)
    average = tf.train.ExponentialMovingAverage(decay, num_updates=count)
    with tf.control_dependencies([count]):
        return average.apply(variables), reading(average.average)


def variables_to_restore(variables, recipe):
    """Return {name in a checkpoint: variable} that fills `variables` with their averages, if any."""
    suffix = '/ExponentialMovingAverage' if recipe.ema_half_life else ''
    return {v.op.name + suffix: v for v in variables}


@contextmanager
def reading(replacement):
    """Inside, a reused variable is read through `replacement(variable)`."""

    def read(getter, *args, **kwargs):  # tf.layers insists on the name `getter`
        return replacement(getter(*args, **kwargs))

    with tf.variable_scope(tf.get_variable_scope(), custom_getter=read):
        yield
