"""The stop button: Ctrl-C, an interrupted kernel and other signals ask a training run to end tidily."""

import signal
import threading
import time
from contextlib import contextmanager, suppress

# A terminal that is closed sends SIGHUP; batch systems send the last three before they kill
NAMES = 'SIGINT', 'SIGTERM', 'SIGHUP', 'SIGBREAK', 'SIGUSR1', 'SIGUSR2', 'SIGXCPU'
SIGNALS = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))
HANG_UP = getattr(signal, 'SIGHUP', None)
SAME_STOP = 0.5  # seconds: `timeout` and others send their signal twice
active = []  # the stops of the training runs that are going on in this process


class Stop:
    """Whether somebody has asked to stop."""

    def __init__(self):
        """Nobody has yet."""
        self.requested = False
        self.at = None  # seconds of the monotonic clock
        self.before = {}  # signal: its handler before ours

    def handle(self, number, frame):
        """Note the first signal; a later one does what it would do without us.

        But not SIGHUP, which a closed terminal may send again and again.
        """
        now = time.monotonic()
        if self.requested and (now - self.at < SAME_STOP or number == HANG_UP):
            return
        if self.requested:
            restore(self.before)
            signal.raise_signal(number)
            return
        self.requested, self.at = True, now
        with suppress(OSError, RuntimeError):  # nobody reads, or the signal came amid another print
            print('stopping after this step; a second signal stops at once', flush=True)


def request_stop():
    """Ask all training runs of this process to stop, as by a signal; tell whether there is one."""
    for stop in active:
        if not stop.requested:
            stop.requested, stop.at = True, time.monotonic()
    return bool(active)


@contextmanager
def stop_signals():
    """Yield a `Stop` that the first of the SIGNALS requests; a second one stops at once.

    At once means between two lines of Python: KeyboardInterrupt, or the end of the process.
    """
    stop = Stop()
    active.append(stop)
    try:
        with handled_by(stop.handle) as stop.before:
            yield stop
    finally:
        active.remove(stop)


@contextmanager
def handled_by(handle):
    """Inside, `handle` receives the SIGNALS; yields {signal: its handler before}.

    A signal that is ignored, as SIGHUP under `nohup`, stays so. Only the main thread of a process
    receives signals; in others nothing changes.
    """
    before = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                handler = signal.getsignal(number)
                if handler is not signal.SIG_IGN:
                    before[number] = signal.SIG_DFL if handler is None else handler
                    signal.signal(number, handle)
        yield before
    finally:
        restore(before)


def restore(handlers):
    """Let signals do what they did before; `handlers` are {signal: handler}."""
    for number, handler in handlers.items():
        signal.signal(number, handler)
