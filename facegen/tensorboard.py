"""What TensorBoard shows of a training run: losses, scores, grids, and histograms of the weights.

TensorFlow's own writer appends it to event files in the run folder, in a thread of its own.
"""

import errno
import os
from contextlib import contextmanager
from numbers import Real

import numpy as np
from PIL import Image

from facegen.files import PARTIAL, cannot_write, complete
from facegen.session import tf

FILES = 'events.out.tfevents.*'
BUCKETS = 50  # of a histogram
NO_CURVES = ('step', 'epoch', 'n')  # numbers in a line of the log or of the scores
WAITING = 10_000  # events, before a step waits for the disk


class Events:
    """The event files of a run folder, from one step on."""

    def __init__(self, run, step, show_every):
        """Cut off what lies beyond `step`, as `RunFolder.cut_back` does, and begin another file.

        The files then hold what they would hold after a training run without interruption.
        """
        kept = [event for event in cut_back(run, step, show_every) if event.step == step]
        self.path, self.begun = run.path, step
        self.seen = {value.tag for event in kept for value in event.summary.value}
        number = sum(1 for _ in run.path.glob(FILES))  # or one of the same second would be lost
        with telling(self.path):
            self.writer = tf.summary.FileWriter(
                str(run.path), max_queue=WAITING, filename_suffix=f'.{number:06d}'
            )

    def add_numbers(self, group, step, values):
        """Add a point to a curve 'group/name' for every number in `values` {name: value}."""
        curves = numbers_in({n: v for n, v in values.items() if n not in NO_CURVES}, group)
        self.add(step, [tf.Summary.Value(tag=tag, simple_value=value) for tag, value in curves])

    def add_grid(self, step, file):
        """Add the grid in a PNG file."""
        with Image.open(file) as grid:
            width, height = grid.size
        image = tf.Summary.Image(width=width, height=height, encoded_image_string=file.read_bytes())
        self.add(step, [tf.Summary.Value(tag='samples', image=image)])

    def add_weights(self, step, weights):
        """Add a histogram for each of `weights` {name: array}, and wait until all is in the file."""
        histograms = {f'weights/{name}': histogram(value) for name, value in weights.items()}
        self.add(step, [tf.Summary.Value(tag=tag, histo=h) for tag, h in histograms.items()])
        self.flush()

    def add(self, step, values):
        """Add summary values; at the first step, those that are not there already."""
        new = [value for value in values if step > self.begun or value.tag not in self.seen]
        with telling(self.path):
            self.writer.add_summary(tf.Summary(value=new), step)

    def flush(self):
        """Wait until all is in the file. Raises OSError where that cannot be written."""
        with telling(self.path):
            self.writer.flush()

    def close(self):
        """Flush, and close the file; raises like `flush`."""
        with telling(self.path):
            self.writer.close()


def cut_back(run, step, show_every):
    """Delete the events beyond `step`, and what a stop showed between two previews; return the others.

    TensorBoard would otherwise show them beside those that a continued training adds.
    """
    remaining = []
    for file in sorted(run.path.glob(FILES)):
        events = list(readable_events(file))
        kept = [e for e in events if e.step <= step and not (e.step % show_every and is_large(e))]
        if len(kept) < len(events):
            # Under a name that TensorBoard would not read
            unread = complete(file, partial=f'events{PARTIAL}')
            with telling(run.path), unread as partial, tf.io.TFRecordWriter(str(partial)) as writer:
                for event in kept:
                    writer.write(event.SerializeToString())
        remaining += kept
    return remaining


@contextmanager
def telling(path):
    """Inside, where TensorFlow cannot write, an OSError says so: it has an error of its own for each."""
    try:
        yield
    except (RuntimeError, LookupError, OSError, tf.errors.OpError) as error:
        text = str(error).splitlines()[0]
        if isinstance(error, PermissionError):  # Windows refuses to replace a file that is open
            text += '; a TensorBoard that shows this run has to end first'
        known = (code for code in (errno.ENOSPC, errno.EDQUOT) if os.strerror(code) in text)
        raise cannot_write(path, OSError(next(known, errno.EIO), text)) from error


def readable_events(file):
    """Yield the events of a file, without a last one that was cut."""
    try:
        yield from tf.train.summary_iterator(str(file))
    except tf.errors.DataLossError:
        return


def is_large(event):
    """Tell whether an event holds a grid or histograms."""
    return any(not value.HasField('simple_value') for value in event.summary.value)


def numbers_in(values, group):
    """Yield ('group/name', number) of all numbers, also of those in dictionaries inside."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from numbers_in(value, f'{group}/{name}')
        elif isinstance(value, Real):
            yield f'{group}/{name}', float(value)


def histogram(values):
    """Return the histogram of an array as TensorBoard reads it, in buckets of equal width."""
    values = np.asarray(values, float)
    counts, edges = np.histogram(values, BUCKETS)
    return tf.HistogramProto(
        min=values.min(),
        max=values.max(),
        num=values.size,
        sum=values.sum(),
        sum_squares=np.square(values).sum(),
        bucket_limit=edges[1:],
        bucket=counts,
    )
