"""Checkpoints: the variables of a training run, kept so that it goes on as if it had never stopped."""

import errno
import math
import os
import re
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from facegen.files import is_pattern
from facegen.run import START
from facegen.session import tf
from facegen.tensorboard import Events, cut_back

CHECK_EVERY = 50  # steps between two checks of all weights for NaN
MOST_DIVERGENCES = 3
ADVICE = (
    'lower the learning rate (of a recipe: learning_rate), or choose another recipe, and look for '
    'images with NaN'
)
# Real and generated images move these averages in either order, and nothing ever reads them.
UNREAD = re.compile(r'discriminator/.*/moving_(mean|variance)')


class Checkpoints:
    """What initialises, saves, restores and checks the variables of the default graph.

    All are saved: weights, batch-norm statistics, averages, and what the optimisers keep; except
    the discriminator's batch-norm averages, which no image and no training depends on, and the
    global step, which the position holds.
    """

    def __init__(self, generator=None, *, tensorboard=False):
        """Add the operations, before the graph is finalised; say whether to write for TensorBoard too.

        `generator` is the graph that `RunFolder.keep_generator` is to store beside the weights.
        """
        self.generator, self.tensorboard = generator, tensorboard
        step = tf.train.get_or_create_global_step()
        self.step = tf.placeholder(step.dtype, [])
        self.set_step = step.assign(self.step)
        variables = [
            v for v in tf.global_variables() if v is not step and not UNREAD.fullmatch(v.op.name)
        ]
        self.variables = {v.op.name: v for v in variables}
        trained = [v.op.name for v in tf.trainable_variables()]
        averages = [f'{name}/ExponentialMovingAverage' for name in trained]
        self.weights = {
            name: self.variables[name] for name in trained + averages if name in self.variables
        }
        self.initialize = tf.global_variables_initializer()
        self.saver = tf.train.Saver(variables, max_to_keep=0)  # the run folder deletes old ones
        self.finite = tf.reduce_all(
            [tf.reduce_all(tf.is_finite(v)) for v in variables if v.dtype.is_floating]
        )

    def restore(self, sess, run, show_every):
        """Initialise the variables, or restore those of the newest good checkpoint; return its position.

        What the run logged after it is cut off. An older checkpoint is taken where the newest is
        damaged, or the log lacks steps before it. `save` will use this session and this run.

        Raises ValueError if all checkpoints are damaged, or are those of other networks; nothing is
        changed then.
        """
        self.sess, self.run, self.show_every = sess, run, show_every
        sess.run(self.initialize)
        position = self.newest_good()
        self.saved_step = position.step if position else None
        position = position or START
        sess.run(self.set_step, {self.step: position.step})
        run.cut_back(position.step, show_every)
        self.restart_events(position.step)
        begun = f', continued from step {position.step:,}' if position.step else ''
        print(f'run folder: {run.path}{begun}')
        return position

    def restart_events(self, step):
        """Cut back to `step` what TensorBoard reads, and go on there if it is to be written."""
        if self.run.events:
            self.run.events.close()
        if self.tensorboard:
            self.run.events = Events(self.run, step, self.show_every)
        else:
            cut_back(self.run, step, self.show_every)

    def newest_good(self):
        """Restore the newest good checkpoint; return its position, None where there is none at all."""
        saved = [step for step, _ in self.run.index_files('checkpoints')]
        logged = self.run.logged_steps()
        for step in sorted(saved, key=lambda step: (step <= logged, step), reverse=True):
            name = str(self.run.path / 'checkpoints' / f'step_{step:06d}')
            try:
                position = self.run.position(step)
                others = restore_fitting(self.sess, self.saver, name, self.variables)
                if not others:
                    if self.sess.run(self.finite):
                        return position
                    raise ValueError('NaN or infinity')
            except (ValueError, tf.errors.OpError) as error:
                reason = str(error).splitlines()[0]
                print(f'{self.run.path}: the weights of step {step:,} are damaged ({reason})')
            else:
                raise ValueError(
                    f'{self.run.path} cannot be continued: its weights are those of other networks '
                    f"than the notebook's ({others}); leave resume out to start a new run"
                )
        if saved:
            raise ValueError(
                f'{self.run.path} cannot be continued: none of its weights can be read; restore its '
                'folder checkpoints, or leave resume out to start a new run'
            )
        return None

    def save(self, position):
        """Save the variables at a position, unless they are saved already; tell TensorBoard of them.

        Raises FloatingPointError, and saves nothing, if one is NaN or infinite; OSError if the disk
        is full or cannot be written.
        """
        if position.step != self.saved_step:
            if self.run.events:
                self.run.events.flush()  # first, so that a training run that goes on here lacks no point
            self.write(position)
        if self.run.events:
            self.run.events.add_weights(position.step, self.sess.run(self.weights))

    def write(self, position):
        """Save the variables at a position; raises like `save`."""
        if not self.sess.run(self.finite):
            raise FloatingPointError(
                f'the weights of step {position.step:,} are NaN or infinite and are not saved; '
                f'the last good ones are in {self.run.path}: {ADVICE}'
            )
        if self.generator:
            self.run.keep_generator(self.generator)
        with self.run.new_checkpoint(position) as name, os_errors():
            self.saver.save(self.sess, name, write_meta_graph=False, write_state=False)
        self.saved_step = position.step

    def went_back(self, batches, numbers):
        """Tell whether a step of `batches` diverged; if so, the run is back where it was good.

        A step diverged if one of `numbers`, {name: number}, is NaN or infinite, or a weight is,
        which is checked every 50 steps and before every `save`. Raises FloatingPointError, with
        advice, if that happens more than three times.
        """
        step = batches.position.step
        look = step % CHECK_EVERY == 0 or step % self.show_every == 0 or batches.is_ending()
        if all(map(math.isfinite, numbers.values())) and not (
            look and not self.sess.run(self.finite)
        ):
            return False
        divergences = batches.position.divergences + 1
        what = f'Step {step:,}: losses or weights are NaN or infinite'
        if divergences > MOST_DIVERGENCES:
            raise FloatingPointError(
                f'{what}, for the {divergences}th time; the last good weights are in '
                f'{self.run.path}: {ADVICE}'
            )
        print(f'{what}; going back, and on with other random numbers')
        good = self.restore(self.sess, self.run, self.show_every)
        batches.go_to(replace(good, divergences=divergences))
        return True


@contextmanager
def os_errors():
    """Inside, what TensorFlow cannot write raises an OSError."""
    try:
        yield
    except tf.errors.OpError as error:
        full = isinstance(error, (tf.errors.ResourceExhaustedError, tf.errors.OutOfRangeError))
        lines = error.message.splitlines()
        reason = next((line for line in lines if '; ' in line), lines[0])  # PATH; REASON
        raise OSError(errno.ENOSPC if full else errno.EIO, reason) from error


def restore_fitting(sess, saver, checkpoint, variables):
    """Restore `variables` {name: variable} from a checkpoint that fits; else return its `misfit`."""
    with readable(checkpoint) as name:
        others = misfit(name, variables)
        if not others:
            saver.restore(sess, name)
    return others


@contextmanager
def readable(checkpoint):
    """Yield a name under which TensorFlow finds a checkpoint that lies below a folder such as 'a[1]'.

    It writes to such a name, but takes one that it reads for a pattern; so it gets a copy.
    """
    if not is_pattern(checkpoint):
        yield checkpoint
        return
    path = Path(checkpoint)
    with tempfile.TemporaryDirectory() as folder:
        for file in path.parent.glob(f'{path.name}.*'):
            shutil.copy(file, folder)
        yield os.path.join(folder, path.name)


def misfit(checkpoint, variables):
    """Return how a checkpoint does not fit `variables` {name: variable}; '' if it does fit.

    TensorFlow restores a resource variable to whatever shape was saved, without a word.
    """
    shapes = tf.train.load_checkpoint(checkpoint).get_variable_to_shape_map()
    for name, variable in variables.items():
        if shapes.get(name) != variable.shape.as_list():
            return f'{name}: expected {variable.shape}, found {shapes.get(name)}'
    return ''
