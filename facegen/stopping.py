"""The stop button: Ctrl-C, an interrupted kernel or SIGTERM ask a training to end tidily."""

import signal
import threading
import time
from contextlib import contextmanager

SIGNALS = signal.SIGINT, signal.SIGTERM
SAME_STOP = 0.5  # seconds: `timeout` and others send their signal twice


class Stop:
    """Whether somebody has asked to stop."""

    def __init__(self):
        """Nobody has yet."""
        self.requested = False
        self.at = None  # seconds of the monotonic clock
        self.before = {}  # signal: its handler before ours

    def handle(self, number, frame):
        """Note the first signal; a later one does what it would do without us."""
        now = time.monotonic()
        if self.requested and now - self.at < SAME_STOP:
            return
        if self.requested:
            self.give_back()
            signal.raise_signal(number)
            return
        self.requested, self.at = True, now
        print('stopping after this step; a second signal stops at once', flush=True)

    def give_back(self):
        """Let the signals do what they did before."""
        for number, handler in self.before.items():
            signal.signal(number, handler)


@contextmanager
def stop_signals():
    """Yield a `Stop` that the first SIGINT or SIGTERM requests; a second one stops at once.

    At once means between two lines of Python: KeyboardInterrupt, or the end of the process. Only the
    main thread of a process receives signals; in others nothing changes.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    try:
        for number in SIGNALS:
            handler = signal.getsignal(number)
            stop.before[number] = signal.SIG_DFL if handler is None else handler
            signal.signal(number, stop.handle)
        yield stop
    finally:
        stop.give_back()
