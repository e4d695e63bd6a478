"""The processes of a training run on several machines: who they are, how they meet, who has ended.

`TF_CONFIG` names them. The numbers of the training travel by TensorFlow's own collectives (distribution.py);
here each worker holds one connection to the chief, over which they check before the first step that they
belong together, and by whose end they notice that one of them is gone.
"""

import contextlib
import json
import math
import os
import select
import socket
import sys
import threading
import time
from typing import NamedTuple

JOBS = 'chief', 'worker'  # in the order in which TensorFlow counts their processes
# Without a chief, the first worker is the chief.
EXAMPLE = '\'{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, "task": {"type": "worker", "index": 0}}\''
WAIT_MINUTES = 10.0  # for the other processes, unless told otherwise
MAY_DIFFER = {'python', 'device'}  # settings, from process to process
HELLO_SECONDS = 5  # in which a process that has connected must say who it is
RETRY_SECONDS = 0.25
LONGEST_LINE = 1 << 20  # bytes
GRACE_SECONDS = 15  # for the main thread to end by itself, when another process is gone
# Seconds of silence, seconds between questions, questions: a machine without power is noticed in 20 s.
KEEP_ALIVE = {'TCP_KEEPIDLE': 8, 'TCP_KEEPINTVL': 4, 'TCP_KEEPCNT': 3}


class ProcessLostError(RuntimeError):
    """Another process of the cluster has ended."""


class Process(NamedTuple):
    """One of a cluster."""

    job: str
    index: int
    address: str

    def __str__(self):
        """Return who and where it is, for messages."""
        name = 'the chief' if self.job == 'chief' else f'worker {self.index}'
        return f'{name} ({self.address})'

    @property
    def endpoint(self):
        """Its (host, port)."""
        host, _, port = self.address.rpartition(':')
        return host.strip('[]'), int(port)


class Cluster(NamedTuple):
    """All processes of a training run, the chief first, and which of them is this one."""

    processes: tuple[Process, ...]
    number: int

    @classmethod
    def named_by(cls, environment):
        """Return the cluster of `TF_CONFIG` in an environment; None if it names no other process.

        Raises ValueError, saying what is wrong, for what cannot work.
        """
        text = environment.get('TF_CONFIG', '').strip()
        config = parsed(text) if text else {}
        if not config.get('cluster'):
            return None
        processes = checked_processes(config['cluster'])
        task = config.get('task')
        if not isinstance(task, dict) or 'type' not in task:
            raise wrong('it has no "task" that says which process this is')
        job, index = task['type'], str(task.get('index', 0))
        if job not in JOBS:
            raise wrong(f'the task type is {job!r}; expected one of {JOBS}')
        count = sum(process.job == job for process in processes)
        if not index.isdecimal() or int(index) >= count:
            raise wrong(f'the task is {job} {index}, but the cluster has {count} of that type')
        own = next(p for p in processes if (p.job, p.index) == (job, int(index)))
        return cls(processes, processes.index(own)) if len(processes) > 1 else None

    @property
    def own(self):
        """This process."""
        return self.processes[self.number]

    @property
    def chief(self):
        """The process that writes the run folder."""
        return self.processes[0]

    @property
    def is_chief(self):
        """Tell whether that is this process."""
        return self.number == 0

    @property
    def spec(self):
        """The addresses of each job, as TensorFlow wants them."""
        jobs = {job: [p.address for p in self.processes if p.job == job] for job in JOBS}
        return {job: addresses for job, addresses in jobs.items() if addresses}


def wrong(what):
    """Return the error of a `TF_CONFIG` that cannot work."""
    return ValueError(f'TF_CONFIG: {what}; such as TF_CONFIG={EXAMPLE}')


def parsed(text):
    """Return a `TF_CONFIG` as a dictionary."""
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise wrong(f'{text[:80]!r} is not JSON ({error})') from error
    if not isinstance(config, dict):
        raise wrong(f'{text[:80]!r} is not a JSON object')
    return config


def checked_processes(jobs):
    """Return the processes of the "cluster" of a `TF_CONFIG`, the chief first."""
    if not isinstance(jobs, dict):
        raise wrong('its "cluster" is no JSON object of types of tasks')
    unknown = sorted(set(jobs) - {*JOBS})
    if unknown:
        raise wrong(f'the cluster has {unknown}; expected {JOBS} only')
    for job, addresses in jobs.items():
        if not (isinstance(addresses, list) and all(map(is_address, addresses))):
            raise wrong(f'{job} is {addresses!r}; expected a list of "host:port"')
    if len(jobs.get('chief', [])) > 1:
        raise wrong(f'there are {len(jobs["chief"])} chiefs; expected one, and workers')
    processes = tuple(
        Process(job, index, address)
        for job in JOBS
        for index, address in enumerate(jobs.get(job, []))
    )
    addresses = [process.address for process in processes]
    if twice := sorted({address for address in addresses if addresses.count(address) > 1}):
        raise wrong(f'{twice[0]} is the address of more than one process')
    return processes


def is_address(text):
    """Tell whether a text is "host:port"."""
    if not isinstance(text, str):
        return False
    host, _, port = text.rpartition(':')
    return bool(host) and port.isdecimal() and 0 < int(port) < 65536


class Peers:
    """The other processes of a cluster: waited for, compared, and watched until all are done.

    As a context manager, it holds the port of this process until `release_port`, and takes leave at the
    end: where that is an error, the others are told.
    """

    def __init__(self, cluster, minutes):
        """Take the port of this process; wait up to so many minutes for the others, later.

        Raises OSError if another program has the port.
        """
        self.cluster, self.minutes = cluster, minutes
        self.deadline = time.monotonic() + 60 * minutes
        self.port = listening(cluster.own)
        self.lines = {}  # process: its `Line`
        self.lost, self.leaving = threading.Event(), threading.Event()
        self.reason, self.watcher = None, None

    def __enter__(self):
        """Return the peers themselves."""
        return self

    def __exit__(self, kind, error, traceback):
        """Tell the others how this process ends, and close everything."""
        self.leaving.set()
        if error is not None:
            self.tell({'failed': str(error).split('\n')[0] or kind.__name__})
        self.release_port()
        if self.watcher:
            self.watcher.join()
        for line in self.lines.values():
            line.close()

    # Meeting ------------------------------------------------------------------------------------

    def meet(self, settings):
        """Wait until all processes are there, and check that they were started with equal settings.

        Raises TimeoutError if they are not there in time, ValueError for a process that does not fit.
        """
        hello = {
            'cluster': self.cluster.spec,
            'task': [self.cluster.own.job, self.cluster.own.index],
            'settings': settings,
        }
        if self.cluster.is_chief:
            self.gather(hello)
        else:
            self.find_chief(hello)

    def gather(self, hello):
        """Accept a connection of every worker."""
        said = None
        while True:
            self.forget_ended()
            missing = [p for p in self.cluster.processes[1:] if p not in self.lines]
            if not missing:
                break
            if missing != said:
                self.say_waiting(missing)
                said = missing
            self.check_deadline(missing)
            with contextlib.suppress(TimeoutError):
                self.port.settimeout(RETRY_SECONDS)
                self.welcome(Line(self.port.accept()[0]), hello)
        self.tell({'complete': True})

    def welcome(self, line, hello):
        """Take up a process that has connected, or tell it why not."""
        with contextlib.suppress(OSError):
            theirs = line.read(HELLO_SECONDS)
            self.forget_ended()
            process, reason = self.judge(theirs, hello)
            if reason is None:
                self.lines[process] = line
                return
            line.write({'refused': reason})
        line.close()

    def forget_ended(self):
        """Drop the connections of processes that have left again."""
        for process in [p for p, line in self.lines.items() if line.has_ended()]:
            self.lines.pop(process).close()

    def judge(self, theirs, hello):
        """Return (process, why it is refused or None) of what it said."""
        # Here, so that --help is not slower for it
        from facegen.run import DECIDE_NOTHING, differences

        if not isinstance(theirs, dict) or theirs.keys() != hello.keys():
            return None, 'this port waits for the workers of a training run'
        if theirs['cluster'] != hello['cluster']:
            return None, f'{self.cluster.chief} belongs to another cluster, {hello["cluster"]}'
        process = next(
            (p for p in self.cluster.processes[1:] if [p.job, p.index] == theirs['task']), None
        )
        if process is None or process in self.lines:
            return None, f'there is another process that says it is {theirs["task"]}'
        names = sorted({*theirs['settings'], *hello['settings']} - {*DECIDE_NOTHING, *MAY_DIFFER})
        if unequal := differences(hello['settings'], theirs['settings'], names):
            text = '; '.join(unequal).replace(', was ', ', of the chief ')
            print(f'{process} is refused: {text}')
            return None, f'its settings are not those of the chief: {text}'
        return process, None

    def find_chief(self, hello):
        """Connect to the chief, and wait until it has found all others."""
        chief, said = self.cluster.chief, False
        while True:
            with contextlib.suppress(OSError):
                line = Line(socket.create_connection(chief.endpoint, timeout=HELLO_SECONDS))
                self.lines[chief] = line
                line.write(hello)
                answer = line.read(max(self.deadline - time.monotonic(), RETRY_SECONDS))
                if answer and 'refused' in answer:
                    raise ValueError(f'{self.cluster.own} cannot take part: {answer["refused"]}')
                if answer and 'complete' in answer:
                    return
            if chief in self.lines:
                self.lines.pop(chief).close()
            if not said:
                self.say_waiting([chief])
                said = True
            self.check_deadline([chief])
            time.sleep(RETRY_SECONDS)

    def say_waiting(self, missing):
        """Print for whom this process waits."""
        minutes = f'{self.minutes:g} minutes' if self.minutes != 1 else '1 minute'
        print(f'waiting for {", ".join(map(str, missing))}, {minutes} at most', flush=True)

    def check_deadline(self, missing):
        """Raise TimeoutError if it is over."""
        if time.monotonic() > self.deadline:
            raise TimeoutError(
                f'{", ".join(map(str, missing))} did not come within {self.minutes:g} minutes; start '
                'all processes of TF_CONFIG, see what those that ended say, or wait for longer '
                '(--wait-minutes)'
            )

    def release_port(self):
        """Let another server of this process have the port."""
        self.port.close()

    def all_ready(self):
        """Wait until every process has come here, and a server of each listens; from then on, watch them.

        Raises ProcessLostError if one has ended, ConnectionError if one cannot be reached, for which
        TensorFlow would wait forever.
        """
        self.meet_again()
        self.check_connections()
        self.meet_again()  # or one that fails now might seem to others not to be reached
        self.watcher = threading.Thread(target=self.watch, daemon=True)
        self.watcher.start()

    def meet_again(self):
        """Wait until every process has come here; raise ProcessLostError if one has ended."""
        if self.cluster.is_chief:
            for process, line in self.lines.items():
                self.expect(process, line, 'ready')
            self.tell({'begin': True})
        else:
            self.tell({'ready': True})
            self.expect(self.cluster.chief, self.lines[self.cluster.chief], 'begin')

    def check_connections(self):
        """Raise ConnectionError if a server of another process cannot be reached."""
        for process in self.cluster.processes:
            if process == self.cluster.own:
                continue
            try:
                socket.create_connection(process.endpoint, timeout=HELLO_SECONDS).close()
            except OSError as error:
                raise ConnectionError(
                    f'{process} cannot be reached from {self.cluster.own} ({error}); let all machines of '
                    'TF_CONFIG connect to each other at these ports'
                ) from error

    def expect(self, process, line, word):
        """Read a message with that word from a process; raise ProcessLostError if it has ended."""
        try:
            message = line.read()
        except OSError:
            message = None
        if not message or word not in message:
            raise ProcessLostError(farewell(process, message))

    # Watching -----------------------------------------------------------------------------------

    def tell(self, message):
        """Send a message to all processes that this one is connected with."""
        for line in self.lines.values():
            with contextlib.suppress(OSError):
                line.write(message)

    def watch(self):
        """Wait until all others are done, or one is gone."""
        running = dict(self.lines)
        while running and not self.leaving.is_set():
            select.select([line.socket for line in running.values()], [], [], RETRY_SECONDS)
            for process, line in list(running.items()):
                if not line.has_news():
                    continue
                try:
                    message = line.read(HELLO_SECONDS)
                except OSError:
                    message = None
                if message and 'done' in message:
                    del running[process]
                    continue
                self.lose(
                    message['lost'] if message and 'lost' in message else farewell(process, message)
                )
                return

    def lose(self, reason):
        """Note that a process is gone; end this one, too, unless it does so itself in time."""
        self.reason = reason
        self.lost.set()
        self.tell({'lost': reason})
        if not self.leaving.wait(GRACE_SECONDS):
            print(reason, file=sys.stderr, flush=True)
            os._exit(1)  # the main thread waits in TensorFlow for the one that is gone

    def check(self, seconds=0):
        """Raise ProcessLostError if another process is gone, or goes within some seconds."""
        if self.lost.wait(seconds):
            raise ProcessLostError(self.reason)

    def wait_until_all_are_done(self):
        """Take leave: nobody ends before the chief has saved, nor the chief before the others' last step.

        Raises ProcessLostError if one ends before that.
        """
        if self.cluster.is_chief:
            while self.watcher.is_alive() and not self.lost.is_set():
                self.watcher.join(RETRY_SECONDS)
            self.check()
            self.tell({'done': True})
        else:
            self.tell({'done': True})
            while self.watcher.is_alive() and not self.lost.is_set():
                self.watcher.join(RETRY_SECONDS)
            self.check()


def farewell(process, message):
    """Return what is said of a process that has ended, by its last message."""
    why = f': {message["failed"]}' if message and 'failed' in message else ''
    return (
        f'{process} has ended{why}; to go on from the last checkpoint, start all processes again, '
        'with --resume'
    )


class Line:
    """A connection that carries one JSON object a line."""

    def __init__(self, connection):
        """Use a socket, which tells when the machine at its other end is gone."""
        self.socket, self.received = connection, b''
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEP_ALIVE.items():
            if hasattr(socket, name):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def write(self, message):
        """Send an object."""
        self.socket.settimeout(HELLO_SECONDS)
        self.socket.sendall(json.dumps(message).encode() + b'\n')

    def read(self, seconds=math.inf):
        """Return the next object, None at the end or if it is none; raise OSError if that takes longer."""
        deadline = time.monotonic() + seconds
        while b'\n' not in self.received:
            left = deadline - time.monotonic()
            self.socket.settimeout(max(left, 0.001) if left < math.inf else None)
            part = self.socket.recv(1 << 16)
            self.received += part
            if not part or len(self.received) > LONGEST_LINE:
                return None
        line, _, self.received = self.received.partition(b'\n')
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            return None
        return message if isinstance(message, dict) else None

    def has_news(self):
        """Tell whether there is something to read, its end included."""
        return b'\n' in self.received or bool(select.select([self.socket], [], [], 0)[0])

    def has_ended(self):
        """Tell whether the other end is closed, if nothing is waiting to be read."""
        if not self.has_news() or self.received:
            return False
        try:
            return not self.socket.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def close(self):
        """Close the connection."""
        self.socket.close()


def listening(process):
    """Return a socket that listens on the port of a process, on all addresses, as TensorFlow's server."""
    _, port = process.endpoint
    options = (
        {'family': socket.AF_INET6, 'dualstack_ipv6': True} if socket.has_dualstack_ipv6() else {}
    )
    try:
        return socket.create_server(('', port), **options)
    except OSError as error:
        raise OSError(
            error.errno,
            f'{process} cannot listen on port {port} ({os.strerror(error.errno)}); end the program that '
            'uses it, or name another port in TF_CONFIG',
        ) from error
