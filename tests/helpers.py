"""What several test files need, beside the fixtures of conftest.py."""

import http.server
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

NOBODY = 65534
NUM_FACES = 20  # of the fixture `faces`
DEADLINE = 300  # seconds for what takes few; the machine may be busy


@contextmanager
def unwritable(*folders):
    """Nobody can write to `folders`, not even the root user of a container."""
    for folder in folders:
        folder.chmod(0o555)
    try:
        with unprivileged():
            yield
    finally:
        for folder in folders:
            folder.chmod(0o755)


@contextmanager
def unprivileged():
    """The root user of a container is nobody for a while; others stay who they are."""
    Image.init()  # its plugins may lie where only root can read them
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def make_public_folder():
    """Yield a folder that other users can reach, which those of tmp_path are not."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@contextmanager
def largest_file(max_bytes):
    """No file can grow beyond so many bytes, as on a disk that is full then."""
    resource = pytest.importorskip('resource')  # Windows has none
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def peak_memory(call):
    """Return the most bytes that Python and numpy held at once for `call`, beyond those before it."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def start(script, *args):
    """Start a Python process that can import what this one can."""
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)}
    command = [sys.executable, '-c', script, *map(str, args)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)


def untrained_run(path, recipe=None, generator=None, channels=1, **config):
    """Make a run whose generator has random weights, averages too; that of the notebook by default.

    Its images are grey and 8x8, in three categories, unless a recipe says otherwise.
    """
    from facegen import notebook
    from facegen.recipes import Recipe
    from facegen.run import RunFolder
    from facegen.sampling import sampling_graph
    from facegen.session import tf

    recipe = recipe or Recipe(image_size=8, g_filters=(8, 4), z_dim=12, z_categories=3)
    shape = [99, recipe.image_size, recipe.image_size, channels]
    settings = {'recipe': recipe, 'z_dim': recipe.z_dim, 'data_shape': shape, 'seed': 5, **config}
    run = RunFolder.create(path, settings)
    generator = generator or notebook.definitions().generator
    rng = np.random.default_rng(0)
    with tf.Graph().as_default(), tf.Session() as sess:
        tf.set_random_seed(0)
        input_z = tf.placeholder(tf.float32, [None, recipe.z_dim])
        generator(input_z, channels, recipe=recipe)
        samples = generator(input_z, channels, is_train=False, recipe=recipe)
        run.keep_generator(sampling_graph(input_z, samples))
        sess.run(tf.global_variables_initializer())
        for variable in tf.global_variables():
            if variable.shape.rank == 1:  # biases, and what batch normalisation learns and averages
                name = variable.op.name.split('/')[-1]
                low, high = {'gamma': (1, 3), 'moving_variance': (0.5, 1)}.get(name, (-0.5, 0.5))
                variable.load(rng.uniform(low, high, variable.shape), sess)
        tf.train.Saver().save(sess, str(run.path / 'checkpoints' / 'step_000000'))
    return run


def enlarged(pixels, factor):
    """Return pixels [h, w, ...], each as a square of `factor` x `factor`."""
    return np.asarray(pixels).repeat(factor, 0).repeat(factor, 1)


def noise_image(mode, width, height=None, seed=0):
    """Return a Pillow image of random pixels."""
    size = [height or width, width, *[3] * (mode == 'RGB')]
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, size, np.uint8))


def write_face(path, seed, size=(178, 218)):
    """Write a smooth random JPEG, so that cropping and resizing both matter."""
    noise = np.random.default_rng(seed).integers(0, 256, [16, 16, 3], np.uint8)
    Image.fromarray(noise).resize(size, Image.BICUBIC).save(path, quality=90)


def write_idx(path, pixels, pack=bytes):
    """Write uint8 images [n, h, w] as an IDX file; return its path."""
    header = struct.pack('>4I', 0x803, *pixels.shape)
    path.write_bytes(pack(header + pixels.tobytes()))
    return path


def some_digits(count=7, size=28):
    """Return random images, uint8 [count, size, size]."""
    return np.random.default_rng(0).integers(0, 256, [count, size, size], np.uint8)


def caches(images):
    """Return the finished caches beside a folder of images."""
    return sorted(Path(f'{images}.cache').glob('[!.]*'))


def serve(request, content, share=1.0):
    """Answer as a good server does, with the range that was asked for."""
    first = int(request.headers.get('Range', 'bytes=0-').removeprefix('bytes=').removesuffix('-'))
    rest = memoryview(content)[first:]
    sent = int(len(rest) * share)
    if not rest:
        answer(request, 416)
    elif first:
        ranges = {'Content-Range': f'bytes {first}-{len(content) - 1}/{len(content)}'}
        answer(request, 206, rest, ranges, sent=sent)
    else:
        answer(request, 200, rest, sent=sent)


def answer(request, status, body=b'', headers=(), sent=None):
    request.send_response(status)
    for name, value in {'Content-Length': len(body), **dict(headers)}.items():
        request.send_header(name, str(value))
    request.end_headers()
    request.wfile.write(body[:sent])
    request.close_connection = True


class Server(http.server.ThreadingHTTPServer):
    """Serves `files` by path; the first requests for a path follow its script."""

    def __init__(self):
        super().__init__(('127.0.0.1', 0), Handler)
        self.files, self.scripts, self.ranges = {}, {}, []

    def add(self, path, content, *script):
        self.files[path], self.scripts[path] = content, list(script)
        return f'http://127.0.0.1:{self.server_port}{path}'

    def handle_error(self, request, client_address):
        """Keep quiet where a client was killed."""


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        script = self.server.scripts[self.path]
        self.server.ranges.append(self.headers.get('Range'))
        (script.pop(0) if script else serve)(self, self.server.files[self.path])

    def log_message(self, *args):
        pass


def free_addresses(count):
    """Return addresses on loopback whose ports nobody uses."""
    sockets = [socket.create_server(('127.0.0.1', 0)) for _ in range(count)]
    addresses = [f'127.0.0.1:{each.getsockname()[1]}' for each in sockets]
    for each in sockets:
        each.close()
    return addresses


# Trainings in other processes ---------------------------------------------------------------------


class Trainer:
    """A process that imports TensorFlow once and trains in children."""

    def __init__(self, tiny_pictures, folder):
        self.request = {'pictures': str(tiny_pictures), 'output': str(folder / 'output')}
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / 'trainer.py')],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.child = None  # process id, while one trains

    def start(self, run_dir, **options):
        """Start a training run; return its process id."""
        line = json.dumps({**self.request, 'run_dir': str(run_dir), **options})
        print(line, file=self.process.stdin, flush=True)
        self.child = int(self.process.stdout.readline())
        return self.child

    def wait(self, seconds=DEADLINE):
        """Return (exit status, what was printed); the status is -9 if it takes longer than that."""
        timer = threading.Timer(seconds, os.kill, [self.child, signal.SIGKILL])
        timer.start()
        status = int(self.process.stdout.readline())
        timer.cancel()
        self.child = None
        return status, self.printed()

    def printed(self):
        """Return what the training has printed."""
        return Path(self.request['output']).read_text()

    def close(self):
        if self.child:
            os.kill(self.child, signal.SIGKILL)
        self.process.communicate()


def tensors(run, weights):
    """Return {step: {name: bytes}} of all last or best checkpoints."""
    import tensorflow.compat.v1 as tf

    contents = {}
    for step, file in run.checkpoints(weights):
        reader = tf.train.load_checkpoint(str(file.with_suffix('')))
        names = reader.get_variable_to_shape_map()
        contents[step] = {name: reader.get_tensor(name).tobytes() for name in names}
    return contents


def contents(folder):
    """Return all that a run holds, but for what names its folder or its speed."""
    from facegen.run import RunFolder

    run = RunFolder(folder)
    position = {**vars(run.position(run.saved_step())), 'seconds': 0}
    return {
        'config': {k: v for k, v in run.config().items() if k != 'run_dir'},
        'log': (folder / 'log.jsonl').read_bytes(),
        'scores': (folder / 'scores.jsonl').read_bytes(),
        'samples': {step: file.read_bytes() for step, file in run.samples()},
        'last': tensors(run, 'last'),
        'best': tensors(run, 'best'),
        'position': position,
        'files': sorted(str(file.relative_to(folder)) for file in folder.rglob('*')),
    }


def wait_for(condition):
    """Wait until `condition()` is true."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def logged(folder, steps):
    """Return a condition: so many steps are logged."""
    file = folder / 'log.jsonl'
    return lambda: file.exists() and file.read_bytes().count(b'\n') >= steps
