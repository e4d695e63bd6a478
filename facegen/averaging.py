"""An average of a network's weights over training, which draws steadier pictures than the last."""

from contextlib import contextmanager

from facegen.session import tf


def variables_of(scope):
    """Return all variables under `scope`, batch-norm statistics included."""
    return [v for v in tf.global_variables() if v.op.name.startswith(scope + '/')]


def average_weights(train_op, scope, recipe, batch_size):
    """Return (op that trains and then averages, context in which `scope` reads its averages).

    Every variable w of the scope, batch-norm statistics included, so that they fit the weights,
    has an average a <- d a + (1 - d) w, with d = 2^(-batch_size / half_life), and less early on,
    so that the first weights are soon forgotten (Yazici et al. 2019, arXiv:1806.04498).
    Without a half-life the op comes back as it is and the context changes nothing.
    """
    if not recipe.ema_half_life:
        return train_op, reading(lambda variable: variable)
    network = variables_of(scope)
    step = tf.get_variable('average_step', [], tf.int32, tf.zeros_initializer(), trainable=False)
    with tf.control_dependencies([train_op]):
        count = step.assign_add(1)
    decay = 0.5 ** (batch_size / recipe.ema_half_life)
    average = tf.train.ExponentialMovingAverage(decay, num_updates=count)
    with tf.control_dependencies([count]):
        return average.apply(network), reading(average.average)


def variables_to_restore(scope, recipe):
    """Return {name in a checkpoint: variable} that fills `scope` with its averages, if there are."""
    suffix = '/ExponentialMovingAverage' if recipe.ema_half_life else ''
    return {v.op.name + suffix: v for v in variables_of(scope)}


@contextmanager
def reading(replacement):
    """Inside, a reused variable is read through `replacement(variable)`."""

    def read(getter, *args, **kwargs):  # tf.layers insists on the name `getter`
        return replacement(getter(*args, **kwargs))

    with tf.variable_scope(tf.get_variable_scope(), custom_getter=read):
        yield
