"""How the steps of a training are run: one or several in a call, on pictures fed or on the device.

A step of a small network does not keep a GPU busy: most of the time it waits for Python and for
pictures. Neither way to spare it that changes a number, in float32; where a rewrite of the graph
chooses what is computed in bfloat16, it may choose otherwise. A CPU gains nothing by them.
"""

import numpy as np

import helper
from facegen.checkpoint import CHECK_EVERY
from facegen.session import tf

TO_DATA_RANGE = np.arange(256, dtype=np.float32) / 255 - 0.5


class Execution:
    """Builds the graph of a step, and runs it for as many steps in a call as were asked for.

    `get_batches` gives what a step needs of the pictures: themselves or, where they lie on the
    device, their indices.
    """

    def __init__(self, get_batches, steps_per_call=1, data_on_device=False):
        """Plan `steps_per_call` steps a call, on the batches of `get_batches`.

        With `data_on_device` these have to be of a `helper.Dataset`, whose pixels, a byte each, are
        copied to the device once. Raises ValueError if they are not.
        """
        self.get_batches, self.steps_per_call, self.pixels = get_batches, steps_per_call, None
        if data_on_device:
            if getattr(get_batches, '__func__', None) is not helper.Dataset.get_batches:
                raise ValueError(
                    f'data_on_device needs the get_batches of a helper.Dataset, not {get_batches!r}; '
                    'leave it out'
                )
            dataset = get_batches.__self__
            self.get_batches, self.pixels = dataset.get_indices, dataset.pixels

    def build(self, step, inputs):
        """Call `step(images, z, learning_rate)`; return (placeholders to feed, what it returned).

        `inputs` are the placeholders of `model_inputs`. `step` returns (anything, turns); a turn is
        a pair: {name: scalar to note}, and a list of operations. Raises ValueError for more than one
        turn if there are several steps in a call: what one turn changes, the next would not see.
        """
        if self.pixels is None:
            played = step
        else:
            inputs = tf.placeholder(tf.int32, [None], 'indices'), *inputs[1:]
            self.add_pixels()

            def played(indices, *others):
                return step(self.pictures(indices), *others)

        if self.steps_per_call == 1:
            return inputs, *played(*inputs)
        return in_a_loop(played, inputs)

    def add_pixels(self):
        """Add a variable for the pixels, which is no part of the training and of its checkpoints."""
        self.upload = tf.placeholder(tf.uint8, self.pixels.shape)
        self.stored = tf.Variable(
            self.upload, trainable=False, collections=[tf.GraphKeys.LOCAL_VARIABLES], name='pixels'
        )

    def pictures(self, indices):
        """Return the pictures of int32 indices [batch], in [-0.5, 0.5]; ~i is number i, mirrored."""
        is_mirrored = indices < 0
        pixels = tf.gather(self.stored, tf.where_v2(is_mirrored, ~indices, indices))
        images = tf.gather(TO_DATA_RANGE, tf.cast(pixels, tf.int32))
        return tf.where_v2(is_mirrored[:, None, None, None], images[:, :, ::-1], images)

    def start(self, sess):
        """Copy the pixels to the device."""
        if self.pixels is not None:
            sess.run(self.stored.initializer, {self.upload: self.pixels})

    def calls(self, feeds, show_every):
        """Yield lists of the (epoch, step, feed) of `feeds()` that one call runs.

        A call ends early at multiples of `show_every`, where weights are looked at for NaN, and before
        a batch of another size. `feeds` is called again after a last call: if that has diverged, the
        training has gone back, and there are steps again.
        """
        call = True
        while call:
            call = []
            for epoch, step, feed in feeds():
                if call and shapes(feed) != shapes(call[0][-1]):
                    yield call
                    call = []
                if self.steps_per_call > 1:  # the next batch may come in the same array
                    feed = {key: np.array(value) for key, value in feed.items()}
                call.append((epoch, step, feed))
                is_full = len(call) == self.steps_per_call
                if is_full or not (step % show_every and step % CHECK_EVERY):
                    yield call
                    call = []
            if call:
                yield call

    def run(self, sess, turns, call):
        """Run the turns of `build` for every step of a call; return [(epoch, step, noted numbers)]."""
        feeds = [feed for *_, feed in call]
        feed = feeds[0]
        if self.steps_per_call > 1:
            feed = {key: np.stack([each[key] for each in feeds]) for key in feed}
        noted = {}
        for turn in turns:
            values, _ = sess.run(turn, feed)
            noted |= values
        return [
            (epoch, step, {name: float(np.ravel(value)[i]) for name, value in noted.items()})
            for i, (epoch, step, _) in enumerate(call)
        ]


def shapes(feed):
    """Return the shapes of what is fed."""
    return [np.shape(value) for value in feed.values()]


def in_a_loop(step, inputs):
    """Add a loop over steps to the graph; return (stacked placeholders, anything, [turn]).

    Each placeholder gets a first axis, that of the steps. Variables get the names that they have
    without the loop.
    """
    stacked = [tf.placeholder(each.dtype, [None, *each.shape.as_list()]) for each in inputs]
    num_steps = tf.shape(stacked[-1])[0]
    built = {}

    def body(number, noted):
        with tf.name_scope(None):
            anything, turns = step(*(each[number] for each in stacked))
        if len(turns) > 1:
            raise ValueError(
                "several steps in a call need a recipe whose updates are 'together', not 'in-turn'"
            )
        ((values, operations),) = turns
        built.update(names=list(values), anything=anything)
        numbers = tf.stack([tf.cast(value, tf.float64) for value in values.values()])
        with tf.control_dependencies(operations):
            return number + 1, noted.write(number, numbers)

    # Of float64, because the rewrite to bfloat16 would round what float32 arrays keep.
    noted = tf.TensorArray(tf.float64, num_steps, infer_shape=False)
    _, noted = tf.while_loop(
        lambda number, _: number < num_steps, body, (0, noted), parallel_iterations=1
    )
    columns = tf.unstack(tf.reshape(noted.stack(), [num_steps, len(built['names'])]), axis=1)
    return stacked, built['anything'], [(dict(zip(built['names'], columns, strict=True)), [])]
