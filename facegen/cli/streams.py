"""The command line's output, which nothing breaks: no lost reader, full disk or missing letter."""

import errno
import io
import os
import sys
from contextlib import contextmanager, suppress

from facegen import stopping

READER_GONE = errno.EPIPE, errno.EIO, errno.ENXIO


class Unbreakable(io.TextIOBase):
    """A text stream that never fails.

    What its encoding lacks is written as an escape. Where it cannot be written to, it writes to nowhere
    from then on, and `reason` says why. If its reader is gone, as a closed terminal is, a training run that
    is going on is asked to stop, as by a signal.
    """

    def __init__(self, stream):
        """Write to a stream of Python's, None where the process was started without it."""
        self.stream, self.reason = stream, None

    @property
    def encoding(self):
        """That of the stream."""
        return getattr(self.stream, 'encoding', None) or 'utf-8'

    def write(self, text):
        """Write text; return its length."""
        written = text.encode(self.encoding, 'backslashreplace').decode(self.encoding)
        self.attempt(lambda: self.stream.write(written))
        return len(text)

    def flush(self):
        """Write what is waiting."""
        self.attempt(lambda: self.stream.flush())

    def attempt(self, write):
        """Call a function that writes, unless there is nowhere to write to."""
        if self.stream is None:
            return
        try:
            write()
        except ValueError:  # the stream was closed: somebody has kept it for longer than it is used
            self.stream = None
        except OSError as error:
            self.lose(error)

    def lose(self, error):
        """Write to nowhere from now on."""
        stream, self.stream, self.reason = self.stream, None, error
        with suppress(OSError, ValueError):  # a stream without a descriptor
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(
                nowhere, stream.fileno()
            )  # so that what is still waiting raises nothing at the end
            os.close(nowhere)
        is_reader_gone = error.errno in READER_GONE
        is_stopped = is_reader_gone and stopping.request_stop()
        if sys.stderr is not self and (is_stopped or not is_reader_gone):
            then = ': stopping after this step' if is_stopped else ''
            print(f'the output cannot be written ({error}){then}', file=sys.stderr)

    def isatty(self):
        """Tell whether a person reads it in a terminal."""
        return self.stream is not None and self.stream.isatty()

    def fileno(self):
        """Return the descriptor; raise io.UnsupportedOperation where there is none."""
        if self.stream is None:
            raise io.UnsupportedOperation('there is no output')
        return self.stream.fileno()


@contextmanager
def unbreakable():
    """Inside, stdout and stderr are `Unbreakable`; yield that of stdout."""
    open_missing_descriptors()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(Unbreakable, before)
    for stream in before:
        if isinstance(stream, io.TextIOWrapper) and not stream.line_buffering:
            stream.reconfigure(line_buffering=True)  # so that a pipe or a log has each line at once
    try:
        yield sys.stdout
    finally:
        for stream in sys.stdout, sys.stderr:
            stream.flush()
        sys.stdout, sys.stderr = before


def open_missing_descriptors():
    """Open the null device as stdin, stdout or stderr where the process was started without it.

    Otherwise the next file that is opened takes that number, and whatever C code reports is written
    into it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
