"""What TensorBoard's own reader finds in a run is what the run folder says."""

import errno
import io
import json
import os
import signal

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
import trainer
from helpers import make_public_folder, unwritable
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_resume import Trainer, diverging, logged, wait_for

from facegen import tensorboard
from facegen.recipes import CLASSIC
from facegen.run import RunFolder

EVERYTHING = {'scalars': 0, 'images': 0, 'histograms': 0, 'tensors': 0}  # 0: keep all of them


@pytest.fixture(scope='module')
def definitions():
    from facegen import notebook

    return notebook.definitions()


def train(definitions, tiny_pictures, folder, **options):
    return trainer.train(definitions, tiny_pictures, run_dir=folder, tensorboard=True, **options)


@pytest.fixture(scope='module')
def uninterrupted(definitions, tiny_pictures, tmp_path_factory):
    return train(definitions, tiny_pictures, tmp_path_factory.mktemp('a') / 'run')


@pytest.fixture(scope='module')
def process(tiny_pictures, tmp_path_factory):
    made = Trainer(tiny_pictures, tmp_path_factory.mktemp('process'))
    yield made
    made.close()


def read(folder):
    """Return what TensorBoard shows: {tag: [(step, content)]} of curves, grids and histograms."""
    events = EventAccumulator(str(folder), size_guidance=EVERYTHING).Reload()
    tags = events.Tags()
    shown = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags['scalars']}
    for tag in tags['images']:
        shown[tag] = [(e.step, e.encoded_image_string) for e in events.Images(tag)]
    for tag in tags['histograms']:
        shown[tag] = [(e.step, e.histogram_value) for e in events.Histograms(tag)]
    return shown


def curve(lines, name):
    return [(line['step'], pytest.approx(line[name], rel=1e-6)) for line in lines]


def assert_shows_the_run(folder):
    """Fail unless all that is shown is what the run noted, each step once."""
    run, shown = RunFolder(folder), read(folder)
    for name in 'd_loss', 'g_loss', 'd_real', 'd_fake':
        assert shown.pop(f'training/{name}') == curve(run.history(), name)
    assert shown.pop('scores/frechet_distance') == curve(run.scores(), 'frechet_distance')
    grids = [(step, file.read_bytes()) for step, file in run.samples()]
    assert shown.pop('samples') == grids
    assert shown
    assert all(tag.startswith('weights/') for tag in shown)
    for histograms in shown.values():
        assert [step for step, _ in histograms] == [step for step, _ in grids]


def test_curves_grids_and_histograms(uninterrupted):
    assert_shows_the_run(uninterrupted)
    run = RunFolder(uninterrupted)
    shown = read(uninterrupted)
    reader = tf.train.load_checkpoint(run.checkpoint())
    kernel = 'generator/dense/kernel'
    for name in kernel, f'{kernel}/ExponentialMovingAverage', 'discriminator/conv2d/kernel':
        step, histogram = shown[f'weights/{name}'][-1]
        weights = reader.get_tensor(name).astype(float)
        assert step == run.saved_step()
        assert (histogram.min, histogram.max) == (weights.min(), weights.max())
        assert histogram.num == weights.size == sum(histogram.bucket)
        assert histogram.sum == pytest.approx(weights.sum())
        assert histogram.sum_squares == pytest.approx((weights**2).sum())
    assert not [tag for tag in shown if 'Adam' in tag or 'moving' in tag]


def test_it_changes_nothing_else(definitions, tiny_pictures, uninterrupted, tmp_path):
    plain = trainer.train(definitions, tiny_pictures, run_dir=tmp_path / 'run')
    for name in 'log.jsonl', 'scores.jsonl', 'samples/step_000028.png':
        assert (plain / name).read_bytes() == (uninterrupted / name).read_bytes()
    assert not list(plain.glob(tensorboard.FILES))
    assert RunFolder(plain).checkpoint().endswith('step_000030')


def test_a_stopped_run_shows_what_one_shows_that_was_not(
    definitions, tiny_pictures, uninterrupted, tmp_path, stop_at
):
    """Nor does a stop between two grids leave its own, or a finished run change."""
    folder = tmp_path / 'run'
    stop_at(6, 16)
    for _ in range(4):
        train(definitions, tiny_pictures, folder)
        assert_shows_the_run(folder)
    assert read(folder) == read(uninterrupted)


def test_a_killed_run_keeps_what_it_showed_and_goes_on(process, uninterrupted, tmp_path):
    folder = tmp_path / 'run'

    def train_and_kill(until, **options):
        pid = process.start(folder, tensorboard=True, **options)
        wait_for(until)
        os.kill(pid, signal.SIGKILL)
        assert process.wait()[0] in (-signal.SIGKILL, 0)

    for _ in range(2):  # amid a preview, the second time with what the first has left
        train_and_kill(lambda: has_histograms(folder), evaluation='endless')
        assert {step for curve in read(folder).values() for step, _ in curve} == {0}
    for steps in 9, 18:
        train_and_kill(logged(folder, steps))
        shown = [step for step, _ in read(folder)['training/d_loss']]
        assert shown == [*range(1, len(shown) + 1)]
        assert len(shown) >= RunFolder(folder).saved_step()
    process.start(folder, tensorboard=True)
    status, printed = process.wait()
    assert status == 0, printed
    assert read(folder) == read(uninterrupted)


def has_histograms(folder):
    """Tell whether the newest file of events holds histograms."""
    files = sorted(folder.glob(tensorboard.FILES))
    return files and b'weights/' in files[-1].read_bytes()


def test_what_was_not_noted_yet_is_not_shown_twice(run):
    """Killed between an event and the line of the run folder that it belongs to."""
    for _ in range(2):
        run.events = tensorboard.Events(run, 10, 10)
        run.add_samples(10, Image.new('L', (2, 2)))
        run.events.add_numbers('scores', 10, {'frechet_distance': 2.0})
        run.events.add_weights(10, {'kernel': np.arange(3)})
        run.events.close()
    assert {tag: len(points) for tag, points in read(run.path).items()} == {
        'samples': 1,
        'scores/frechet_distance': 1,
        'weights/kernel': 1,
    }


def test_going_back_from_nan_takes_back_the_curves(definitions, tiny_pictures, tmp_path):
    """The run goes on within one process; no grid is lost, no step shown twice."""
    import helper

    dataset = helper.Dataset('folder', tiny_pictures, width=8, height=8, seed=3)
    options = trainer.OPTIONS | {'evaluation': trainer.brightness, 'run_dir': tmp_path / 'run'}
    folder = definitions.train(
        trainer.EPOCHS, 8, 8, 1e-3, 0.45, diverging(dataset, 11, 2), dataset.shape, 'RGB',
        recipe=trainer.tiny_recipe(), tensorboard=True, **options,
    )  # fmt: skip
    assert RunFolder(folder).position(30).divergences == 2
    assert len(list(folder.glob(tensorboard.FILES))) == 3
    assert_shows_the_run(folder)


def test_without_it_a_continued_run_shows_no_more_than_it_has_kept(
    definitions, tiny_pictures, tmp_path
):
    folder = tmp_path / 'run'
    options = {'recipe': trainer.tiny_recipe(rate_decay=False)}
    train(definitions, tiny_pictures, folder, max_steps=11, **options)
    for file in (folder / 'checkpoints').glob('step_000011*'):
        file.unlink()
    trainer.train(definitions, tiny_pictures, run_dir=folder, max_steps=14, **options)
    assert [step for step, _ in read(folder)['training/g_loss']] == [*range(1, 9)]
    assert [step for step, _ in read(folder)['samples']] == [0, 4, 8]
    train(definitions, tiny_pictures, folder, max_steps=16, **options)
    assert [step for step, _ in read(folder)['samples']] == [0, 4, 8, 16]


@pytest.fixture
def run(tmp_path, definitions):  # these switch to graph mode, which the writer needs
    return RunFolder.create(tmp_path / 'run', {'recipe': CLASSIC})


def test_all_numbers_of_a_line_become_curves(run):
    events = tensorboard.Events(run, 0, 10)
    scores = {
        'n': 9,
        'mean': np.float32(0.5),
        'levels': {'16': 3, '8': 4.0},
        'list': [1],
        'x': None,
    }
    events.add_numbers('scores', 5, scores)
    events.close()
    assert read(run.path) == {
        'scores/mean': [(5, 0.5)],
        'scores/levels/16': [(5, 3.0)],
        'scores/levels/8': [(5, 4.0)],
    }


def test_a_file_that_ends_amid_an_event_is_read_up_to_there(run):
    for begin, end in (0, 5), (3, 7):
        events = tensorboard.Events(run, begin, 10)
        for step in range(begin + 1, end + 1):
            events.add_numbers('training', step, {'loss': step})
        events.close()
        (*_, file) = sorted(run.path.glob(tensorboard.FILES))
        file.write_bytes(file.read_bytes()[:-5])
    assert [step for step, _ in read(run.path)['training/loss']] == [1, 2, 3, 4, 5, 6]
    kept = tensorboard.cut_back(run, 4, 10)
    assert [event.step for event in kept if event.HasField('summary')] == [1, 2, 3, 4]
    assert [step for step, _ in read(run.path)['training/loss']] == [1, 2, 3, 4]


def test_a_full_disk_ends_the_training_in_one_line(process, uninterrupted, tmp_path):
    folder = tmp_path / 'run'
    process.start(folder, tensorboard=True, max_bytes=50_000)
    status, printed = process.wait()
    assert status == 1
    assert f'OSError: [Errno {errno.EIO}] {folder} cannot be written' in printed
    process.start(folder, tensorboard=True)
    assert process.wait()[0] == 0
    assert read(folder) == read(uninterrupted)


def test_a_histogram_of_equal_buckets():
    values = np.array([0.0, 0.1, 0.1, 1.0])
    histogram = tensorboard.histogram(values)
    width = 1 / tensorboard.BUCKETS
    np.testing.assert_allclose(histogram.bucket_limit, width * np.arange(1, 51))
    assert [histogram.bucket[i] for i in (0, 5, 49)] == [1, 2, 1]
    assert sum(tensorboard.histogram(np.full(7, 3.0)).bucket) == 7


def test_a_folder_that_cannot_be_written_is_named(definitions):
    for folder in make_public_folder():
        run = RunFolder.create(folder / 'run', {'recipe': CLASSIC})
        with (
            unwritable(run.path),
            pytest.raises(OSError, match=r'run cannot be written \(.*denied'),
        ):
            tensorboard.Events(run, 0, 10).close()


def test_grids_have_their_size(uninterrupted):
    run = RunFolder(uninterrupted)
    events = EventAccumulator(str(uninterrupted), size_guidance=EVERYTHING).Reload()
    for image in events.Images('samples'):
        picture = Image.open(io.BytesIO(image.encoded_image_string))
        assert (image.width, image.height) == picture.size == (16, 16)
    assert len(run.samples()) == len(events.Images('samples')) == 9
    assert json.loads((uninterrupted / 'config.json').read_text())['tensorboard'] is True
