"""Processes that share the calls of a function, to use several CPUs."""

import pickle
import signal
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

# An import of this package, whatever lies in the working folder
WORKER = (
    'import sys; sys.path[:] = sys.argv[1:]; from facegen.data import processes as p; p.answer()'
)


def map_in_processes(function, arguments, count):
    """Yield function(argument) for each argument, in order; `count` processes take turns.

    A process that is ahead waits until its pipe is read, and ends there if nobody reads it any more.
    They are not `multiprocessing` processes, which would run a user's script again, hang where one
    is killed while it answers, and wait forever as orphans.

    Raises what the function raises, and ChildProcessError where a process was killed.
    """
    path = [str(Path(__file__).parents[2]), *sys.path]
    with ExitStack() as started:
        processes = []
        for _ in range(count):
            process = subprocess.Popen(
                [sys.executable, '-c', WORKER, *path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # so that Ctrl-C in a terminal interrupts this one alone
            )
            started.enter_context(process)
            started.callback(process.kill)
            processes.append(process)
        try:
            for number, process in enumerate(processes):
                with process.stdin as request:
                    pickle.dump((function, arguments[number::count]), request)
            for number in range(len(arguments)):
                process = processes[number % count]
                reply = pickle.load(process.stdout)
                if isinstance(reply, Exception):
                    raise reply
                yield reply
        except (BrokenPipeError, EOFError, pickle.UnpicklingError) as error:
            raise ChildProcessError(
                f'a process that decodes images ended with status {process.wait()}; -9 is how '
                'the system ends one when memory is short: close other programs and run this again'
            ) from error


def answer():
    """Do what `map_in_processes` asks, in a process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Windows has no sessions
    replies, sys.stdout = sys.stdout.buffer, sys.stderr  # nothing is printed between the replies
    function, arguments = pickle.load(sys.stdin.buffer)
    with suppress(BrokenPipeError):
        for argument in arguments:
            try:
                reply = function(argument)
            except Exception as error:  # raised again by the process that asks
                reply = error
            pickle.dump(reply, replies)
            replies.flush()
