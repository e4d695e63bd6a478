"""Processes that call functions of this one, on as many CPUs."""

import pickle
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue

WORKER = (
    'import sys; sys.path[:] = sys.argv[1:]; from facegen.data import processes as p; p.answer()'
)


@contextmanager
def processes(count):
    """Yield call(function, argument), which calls it in one of `count` processes that is idle.

    They are no processes of `multiprocessing`, which would run a user's script again or copy a
    process with TensorFlow's threads, and whose orphans wait forever: these end with their input.
    """
    path = [str(Path(__file__).parents[2]), *sys.path]
    idle = SimpleQueue()

    def call(function, argument):
        process = idle.get()
        try:
            pickle.dump((function, argument), process.stdin)
            process.stdin.flush()
            reply = pickle.load(process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            raise ChildProcessError(
                f'a process that decodes images ended with status {process.wait()}; -9 is what '
                'the system does where memory is short: close other programs and run this again'
            ) from error
        finally:
            idle.put(process)
        if isinstance(reply, Exception):
            raise reply
        return reply

    with ExitStack() as started:
        for _ in range(count):
            process = subprocess.Popen(
                [sys.executable, '-c', WORKER, *path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # so that Ctrl-C in a terminal interrupts this one alone
            )
            started.callback(end, process)
            idle.put(process)
        yield call


def end(process):
    """End a process, whatever it does."""
    process.kill()
    process.wait()
    process.stdout.close()
    with suppress(OSError):  # of a request that was under way
        process.stdin.close()


def answer():
    """Answer the requests of `processes` until the process that asks has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Windows has no sessions
    requests, replies = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # so that nothing is printed between the replies
    with suppress(EOFError, BrokenPipeError):
        while True:
            function, argument = pickle.load(requests)
            try:
                reply = function(argument)
            except Exception as error:  # raised again by the process that asks
                reply = error
            pickle.dump(reply, replies)
            replies.flush()
