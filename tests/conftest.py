"""Fixtures shared by all tests; importing facegen first prepares TensorFlow for tf.layers."""

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import facegen  # noqa: E402, F401

QUIET = {'deadline': None, 'database': None, 'suppress_health_check': [HealthCheck.too_slow]}
settings.register_profile('short', max_examples=40, derandomize=True, **QUIET)
settings.register_profile('long', max_examples=4000, **QUIET)  # --hypothesis-profile=long
settings.load_profile('short')


@pytest.fixture
def notebook():
    """The notebook's functions, whose networks a test may replace."""
    from facegen import notebook

    return notebook.definitions()


@pytest.fixture
def digit_batches():
    """A classic get_batches over 64 synthetic digits, with its data_shape and mode."""
    import numpy as np

    rows, columns = np.mgrid[:28, :28]
    centers = np.random.default_rng(0).uniform(8, 20, [64, 2])
    distance = np.hypot(rows - centers[:, 0, None, None], columns - centers[:, 1, None, None])
    images = np.clip(1 - np.abs(distance - 6) / 2, 0, 1).astype(np.float32)[..., None] - 0.5

    def get_batches(batch_size):
        for start in range(0, len(images) - batch_size + 1, batch_size):
            yield images[start : start + batch_size]

    return get_batches, images.shape, 'L'


@pytest.fixture(scope='session')
def sample_data(tmp_path_factory):
    """A data folder with both samples, the faces fetched as a user fetches them."""
    import helper

    folder = tmp_path_factory.mktemp('data')
    for name in 'mnist', 'celeba':
        helper.download_extract(name, folder, data='sample')
    return folder


@pytest.fixture(scope='session')
def sample_digits(tmp_path_factory):
    """The 5,000 sample digits; unlike `sample_data`, they need no network."""
    import helper

    folder = tmp_path_factory.mktemp('data')
    return helper.Dataset('mnist', data_path=folder, data='sample').pixels


@pytest.fixture(scope='session')
def tiny_pictures(tmp_path_factory):
    """A folder of 42 small colour images, decoded already."""
    import numpy as np
    from PIL import Image

    import helper

    folder = tmp_path_factory.mktemp('data') / 'pictures'
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(42):
        pixels = rng.integers(0, 256, [2, 2, 3], np.uint8).repeat(4, 0).repeat(4, 1)
        Image.fromarray(pixels).save(folder / f'{i:02}.png')
    helper.Dataset('folder', folder, width=8, height=8)
    return folder


@pytest.fixture(scope='session')
def chromium():
    """The path of the system's Chromium."""
    return program_of('chromium', 'chromium-browser', 'google-chrome')


@pytest.fixture(scope='session')
def firefox():
    """The path of the system's Firefox."""
    return program_of('firefox-esr', 'firefox')


def program_of(*names):
    """Return the path of the first program of these names; skip the test where there is none."""
    import shutil

    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip(f'no {", ".join(names)} in PATH; get one by: apt-get install {names[0]}')
    return program


@pytest.fixture
def faces(tmp_path):
    """A folder of 20 images of the size of CelebA's."""
    from helpers import NUM_FACES, write_face

    folder = tmp_path / 'faces'
    folder.mkdir()
    for number in range(NUM_FACES):
        write_face(folder / f'{number:06}.jpg', number)
    return folder


@pytest.fixture
def decoded(monkeypatch):
    """A list that grows by each image that this process decodes."""
    import helper
    from facegen.data.sources import DATASETS

    files = []

    def get_image(path, *args, **options):
        files.append(Path(path).name)
        return helper.get_image(path, *args, **options)

    for name, source in DATASETS.items():
        monkeypatch.setitem(DATASETS, name, source._replace(read=get_image))
    return files


@pytest.fixture
def stop_at(monkeypatch):
    """Stop the training of this process after some steps, by a signal."""
    import signal

    from facegen.training import Training

    end_step = Training.end_step

    def stop_at(*steps):
        def end_step_and_stop(training, **numbers):
            end_step(training, **numbers)
            if training.source.position.step in steps:
                signal.raise_signal(signal.SIGINT)

        monkeypatch.setattr(Training, 'end_step', end_step_and_stop)

    return stop_at


@pytest.fixture
def server():
    """An HTTP server on loopback."""
    import threading

    from helpers import Server

    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
