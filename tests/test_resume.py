"""Kill -9, stop, damage: a run that goes on ends like one that was never interrupted, to the bit."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
import trainer
from helpers import Trainer, contents, logged, make_public_folder, tensors, unwritable, wait_for
from PIL import Image

from facegen.run import RunFolder

STEPS = 30
DEADLINE = 300  # seconds for what takes one; the machine may be busy


@pytest.fixture(scope='module')
def definitions():
    from facegen import notebook

    return notebook.definitions()


@pytest.fixture(scope='module')
def uninterrupted(definitions, tiny_pictures, tmp_path_factory):
    """The run that all others have to equal."""
    return trainer.train(definitions, tiny_pictures, run_dir=tmp_path_factory.mktemp('a') / 'run')


@pytest.fixture
def copy(uninterrupted, tmp_path):
    """A finished run that a test may damage."""
    return Path(shutil.copytree(uninterrupted, tmp_path / 'copy'))


@pytest.fixture(scope='module')
def process(tiny_pictures, tmp_path_factory):
    made = Trainer(tiny_pictures, tmp_path_factory.mktemp('process'))
    yield made
    made.close()


def assert_same(folder, reference):
    """Fail unless both runs hold the same, to the bit."""
    ours, theirs = contents(folder), contents(reference)
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert ours[name] == theirs[name], name
    assert [line['step'] for line in RunFolder(folder).history()] == [*range(1, STEPS + 1)]


def test_kills_at_any_moment_change_nothing(process, uninterrupted, tmp_path):
    """The first before there are settings, others amid steps and amid the writing of checkpoints."""
    folder = tmp_path / 'run'
    rng = np.random.default_rng(0)
    for kill_at in [1, 4, 11, *rng.integers(12, 90, 5)]:
        process.start(folder, kill_at=int(kill_at))
        assert process.wait()[0] == -signal.SIGKILL
    for steps in 12, 21:  # by another process, whatever this one is doing
        pid = process.start(folder)
        wait_for(logged(folder, steps))
        os.kill(pid, signal.SIGKILL)
        assert process.wait()[0] in (-signal.SIGKILL, 0)
    process.start(folder)
    status, printed = process.wait()
    assert status == 0, printed
    assert_same(folder, uninterrupted)
    assert [file.name for file in tmp_path.iterdir()] == ['run']


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_between_two_steps_and_resume_goes_on(
    process, uninterrupted, tmp_path, number
):
    folder = tmp_path / 'run'
    pid = process.start(folder, show_every=1000, epochs=100_000, recipe={'rate_decay': False})
    wait_for(logged(folder, 5))
    os.kill(pid, number)
    os.kill(pid, number)  # as `timeout` does: the same stop
    status, printed = process.wait()
    assert status == 0, printed
    step = RunFolder(folder).saved_step()
    assert f'stopped after step {step:,}, all is saved; to go on, run again with resume' in printed
    assert RunFolder(folder).history()[-1]['step'] == step
    assert RunFolder(folder).samples()[-1][0] == step
    assert printed.endswith(f'{folder}\n')


def test_a_second_signal_stops_at_once(process, tmp_path):
    """The evaluation never ends, so that the first signal alone would wait forever."""
    pid = process.start(tmp_path / 'run', evaluation='endless')
    wait_for((tmp_path / 'run' / 'checkpoints' / 'step_000000.index').exists)
    os.kill(pid, signal.SIGINT)
    wait_for(lambda: 'a second signal stops at once' in Path(process.request['output']).read_text())
    time.sleep(0.8)  # or it would count as the same
    os.kill(pid, signal.SIGINT)
    status, printed = process.wait()
    assert status == 1
    assert printed.rstrip().endswith('KeyboardInterrupt')
    assert RunFolder(tmp_path / 'run').saved_step() == 0


def resume(definitions, tiny_pictures, folder, **options):
    return trainer.train(definitions, tiny_pictures, run_dir=folder, **options)


def test_a_stopped_run_ends_like_one_that_was_not(
    definitions, tiny_pictures, uninterrupted, tmp_path, stop_at
):
    """Stopped between two grids; neither the extra grid nor a score of it stays."""
    folder = tmp_path / 'run'
    stop_at(6, 15, 16)
    for step in (6, 15, 16, 30):
        assert resume(definitions, tiny_pictures, folder) == folder
        assert RunFolder(folder).saved_step() == step
        assert RunFolder(folder).samples()[-1][0] == step
    assert_same(folder, uninterrupted)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_finished_run_is_left_alone(definitions, tiny_pictures, copy, uninterrupted, capsys):
    before = {file: file.stat().st_mtime_ns for file in (copy / 'checkpoints').iterdir()}
    assert resume(definitions, tiny_pictures, copy) == copy
    assert {file: file.stat().st_mtime_ns for file in (copy / 'checkpoints').iterdir()} == before
    assert 'continued from step 30' in capsys.readouterr().out
    assert_same(copy, uninterrupted)


def cut_log(copy):
    file = copy / 'log.jsonl'
    file.write_bytes(file.read_bytes()[:-10])
    return ''


def add_to_log(copy):
    with (copy / 'log.jsonl').open('a') as file:
        file.write('{"step": 31, "d_loss": 1.0, "g_loss": 1.0}\n{"step": 32')
    return ''


def damage_log(copy):
    file = copy / 'log.jsonl'
    lines = file.read_bytes().splitlines(keepends=True)
    lines[28] = b'\xff\n'
    file.write_bytes(b''.join(lines))
    return ''


def cut_scores(copy):
    file = copy / 'scores.jsonl'
    file.write_bytes(file.read_bytes()[:-3])
    return ''


def damage_weights(copy):
    (file,) = (copy / 'checkpoints').glob('step_000030.data-*')
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    return 'the weights of step 30 are damaged'


def cut_weights(copy):
    file = copy / 'checkpoints' / 'step_000030.index'
    file.write_bytes(file.read_bytes()[:-20])
    return 'the weights of step 30 are damaged'


def damage_position(copy):
    (copy / 'checkpoints' / 'step_000030.json').write_text('{"step": 29}')
    return 'the weights of step 30 are damaged'


def lose_grid_and_scores(copy):
    (copy / 'samples' / 'step_000030.png').unlink()
    (copy / 'scores.jsonl').write_bytes(b''.join(
        (copy / 'scores.jsonl').read_bytes().splitlines(keepends=True)[:-1]
    ))  # fmt: skip
    return ''


@pytest.mark.parametrize(
    'damage',
    [
        cut_log, add_to_log, damage_log, cut_scores, damage_weights, cut_weights, damage_position,
        lose_grid_and_scores,
    ],
)  # fmt: skip
def test_what_is_damaged_is_made_again(
    definitions, tiny_pictures, copy, uninterrupted, capsys, damage
):
    message = damage(copy)
    resume(definitions, tiny_pictures, copy)
    assert message in capsys.readouterr().out
    assert_same(copy, uninterrupted)


def test_all_weights_damaged(definitions, tiny_pictures, copy):
    for file in (copy / 'checkpoints').glob('*.data-*'):
        file.write_bytes(b'')
    before = contents_of_files(copy)
    with pytest.raises(ValueError, match='none of its weights can be read'):
        resume(definitions, tiny_pictures, copy)
    assert contents_of_files(copy) == before


def contents_of_files(folder):
    return {file: file.read_bytes() for file in folder.rglob('*') if file.is_file()}


def test_weights_of_other_networks(definitions, tiny_pictures, copy):
    config = json.loads((copy / 'config.json').read_text())
    config['recipe']['g_filters'] = [12, 4]
    (copy / 'config.json').write_text(json.dumps(config))
    before = contents_of_files(copy)
    with pytest.raises(ValueError, match='those of other networks than the notebook'):
        resume(definitions, tiny_pictures, copy, recipe=trainer.tiny_recipe(g_filters=(12, 4)))
    assert contents_of_files(copy) == before


def test_other_settings_are_refused_with_the_differences(definitions, tiny_pictures, copy):
    before = contents_of_files(copy)
    with pytest.raises(ValueError, match='cannot be continued with other settings') as error:
        resume(definitions, tiny_pictures, copy, seed=4, recipe=trainer.tiny_recipe(dropout=0.25))
    assert 'recipe.dropout is 0.25, was 0.5; seed is 4, was 3;' in str(error.value)
    with pytest.raises(ValueError, match='epoch_count is 7, was 6'):  # the learning rate decays
        resume(definitions, tiny_pictures, copy, epochs=7)
    assert contents_of_files(copy) == before


def test_other_pictures_are_refused(definitions, tiny_pictures, copy, tmp_path):
    shutil.copytree(tiny_pictures, tmp_path / 'pictures')
    Image.new('RGB', (8, 8)).save(tmp_path / 'pictures' / '41.png')
    with pytest.raises(ValueError, match=r"data\.sha256 is '\w+', was '\w+'"):
        resume(definitions, tmp_path / 'pictures', copy)


def test_a_training_may_be_made_longer(definitions, tiny_pictures, tmp_path, capsys):
    recipe = trainer.tiny_recipe(rate_decay=False)
    for folder, plans in ('long', [6]), ('longer', [2, 6]):
        for epochs in plans:
            resume(definitions, tiny_pictures, tmp_path / folder, recipe=recipe, epochs=epochs)
    long, longer = (RunFolder(tmp_path / name) for name in ('long', 'longer'))
    assert long.history() == longer.history()
    assert tensors(long, 'last')[STEPS] == tensors(longer, 'last')[STEPS]
    assert longer.config()['epoch_count'] == 6
    assert 'epoch_count is 6, was 2' in capsys.readouterr().out


def test_which_run_is_continued(definitions, tiny_pictures, tmp_path, monkeypatch):
    """The newest with these settings, or the one that is named; a new one where there is none."""
    monkeypatch.chdir(tmp_path)
    run = Path('runs', 'a')
    for seed in 1, 2, 1:
        trainer.train(definitions, tiny_pictures, run_dir=run, seed=seed, resume=False, epochs=1)
    for seed, name in (2, 'a-2'), (1, 'a-3'):
        assert resume(definitions, tiny_pictures, run, seed=seed, epochs=1).name == name
    assert resume(definitions, tiny_pictures, run, seed=1, epochs=1, resume=run).name == 'a'
    with pytest.raises(ValueError, match=r'a-2 cannot be .* seed is 1, was 2'):
        resume(definitions, tiny_pictures, run, seed=1, epochs=1, resume='runs/a-2')
    with pytest.raises(ValueError, match=r'a-3 cannot be .* seed is 3, was 1'):
        resume(definitions, tiny_pictures, run, seed=3, epochs=1)
    with pytest.raises(FileNotFoundError, match='is no run folder'):
        resume(definitions, tiny_pictures, run, resume='runs')
    assert resume(definitions, tiny_pictures, 'b', seed=3, epochs=1, resume='c').name == 'c'


def test_two_processes_never_train_in_one_folder(definitions, tiny_pictures, copy):
    with RunFolder(copy) as other:
        assert other.acquire()
        with pytest.raises(BlockingIOError, match='is in use: another process trains there'):
            resume(definitions, tiny_pictures, copy)
    resume(definitions, tiny_pictures, copy)


def test_a_classic_get_batches_is_replayed(definitions, digit_batches, tmp_path):
    get_batches, data_shape, mode = digit_batches
    recipe = trainer.tiny_recipe(image_size=28, rate_decay=False)
    for folder, plans in ('a', [7]), ('b', [3, 7]):
        for max_steps in plans:
            definitions.train(
                2, 16, 8, 1e-3, 0.5, get_batches, data_shape, mode, recipe=recipe, show_every=2,
                max_steps=max_steps, run_dir=tmp_path / folder, resume=True,
            )  # fmt: skip
    a, b = (RunFolder(tmp_path / name) for name in 'ab')
    assert a.history() == b.history()
    assert tensors(a, 'last')[7] == tensors(b, 'last')[7]


# Nothing can be written ---------------------------------------------------------------------------


def test_a_full_disk_while_logging(definitions, tiny_pictures, uninterrupted, tmp_path):
    if not Path('/dev/full').exists():
        pytest.skip('this system has no /dev/full')
    folder = tmp_path / 'run'

    def evaluation(images):
        if not (folder / 'log.jsonl').exists():
            (folder / 'log.jsonl').symlink_to('/dev/full')
        return trainer.brightness(images)

    with pytest.raises(OSError, match=r'log.jsonl cannot be written \(No space left on device\)'):
        resume(definitions, tiny_pictures, folder, evaluation=evaluation)
    assert RunFolder(folder).saved_step() == 0
    (folder / 'log.jsonl').unlink()
    resume(definitions, tiny_pictures, folder)
    assert_same(folder, uninterrupted)


def test_a_full_disk_while_saving(
    definitions, tiny_pictures, process, uninterrupted, tmp_path, stop_at
):
    folder = tmp_path / 'run'
    stop_at(9)
    resume(definitions, tiny_pictures, folder)
    before = contents_of_files(folder / 'checkpoints')
    process.start(folder, max_bytes=12_000)
    status, printed = process.wait()
    assert status == 1
    message = printed.splitlines()[-1]
    assert 'checkpoints cannot be written' in message
    assert 'what was there is intact' in message
    assert contents_of_files(folder / 'checkpoints') == before
    process.start(folder)
    status, printed = process.wait()
    assert status == 0, printed
    assert_same(folder, uninterrupted)


@pytest.fixture
def public_folder():
    yield from make_public_folder()


def test_a_read_only_folder(definitions, tiny_pictures, copy, public_folder):
    run = shutil.copytree(copy, public_folder / 'run')
    dataset = shutil.copytree(tiny_pictures, public_folder / 'pictures')
    resume(definitions, dataset, public_folder / 'other', epochs=1)
    before = contents_of_files(run)
    (run / '.lock').unlink(missing_ok=True)  # which filelock keeps since 4
    with unwritable(run, public_folder):
        for path in run, public_folder / 'new':
            with pytest.raises(OSError, match=r'cannot be written .*make it writable'):
                RunFolder.open(path, RunFolder(run).config(), resume=path)
    assert contents_of_files(run).keys() <= before.keys()


# Divergence ---------------------------------------------------------------------------------------


def diverging(dataset, at, times):
    """Return a get_batches whose batch that begins at step `at` is NaN so many times."""
    left = times

    def get_batches(batch_size, *, epoch, start=0):
        nonlocal left
        steps = dataset.shape[0] // batch_size
        for number, images in enumerate(dataset.get_batches(batch_size, epoch=epoch), 1):
            if number <= start:
                continue
            if epoch * steps + number == at and left:
                left -= 1
                images = images * np.nan
            yield images

    return get_batches


@pytest.fixture
def train_with_nan(definitions, tiny_pictures, tmp_path):
    def train(at, times, **options):
        import helper

        dataset = helper.Dataset('folder', tiny_pictures, width=8, height=8, seed=3)
        recipe = trainer.tiny_recipe()
        options = trainer.OPTIONS | {'evaluation': trainer.brightness} | options
        return definitions.train(
            trainer.EPOCHS, 8, 8, 1e-3, 0.45, diverging(dataset, at, times), dataset.shape, 'RGB',
            recipe=recipe, run_dir=tmp_path / 'run', **options,
        )  # fmt: skip

    return train


def all_finite(run):
    return all(
        np.isfinite(np.frombuffer(value, np.float32)).all()
        for weights in ('last', 'best')
        for values in tensors(run, weights).values()
        for name, value in values.items()
        if not name.endswith('step')
    )


def test_a_divergence_goes_back_and_on_with_other_random_numbers(
    train_with_nan, uninterrupted, capsys
):
    run = RunFolder(train_with_nan(at=11, times=2))
    printed = capsys.readouterr().out
    assert printed.count('Step 11: losses or weights are NaN or infinite; going back') == 2
    assert printed.count('continued from step 8') == 2
    assert all_finite(run)
    assert run.position(STEPS).divergences == 2
    history, usual = run.history(), RunFolder(uninterrupted).history()
    assert [line['step'] for line in history] == [*range(1, STEPS + 1)]
    assert history[:8] == usual[:8]
    assert all(line != other for line, other in zip(history[8:], usual[8:], strict=True))


def test_a_divergence_in_the_last_step_does_not_end_the_training(train_with_nan):
    """After the last batch there are steps again."""
    run = RunFolder(train_with_nan(at=STEPS, times=1))
    assert [line['step'] for line in run.history()] == [*range(1, STEPS + 1)]
    assert run.position(STEPS).divergences == 1


def test_the_fourth_divergence_ends_with_advice(train_with_nan, tmp_path):
    with pytest.raises(FloatingPointError, match=r'4th time.*lower the learning rate'):
        train_with_nan(at=11, times=99)
    run = RunFolder(tmp_path / 'run')
    assert run.saved_step() == 8
    assert all_finite(run)
    assert np.isfinite([line['d_loss'] for line in run.history()]).all()


class At:
    """Batches at a step, for `Checkpoints`."""

    def __init__(self, step):
        from facegen.run import Position

        self.position = Position(step=step)
        self.went_to = None

    def is_ending(self):
        return False

    def go_to(self, position):
        self.went_to = position


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_weights_are_looked_at_every_50_steps_and_never_saved_when_bad(tmp_path, value):
    """Weights may be infinite while losses are not: tanh and the sigmoid are bounded."""
    from facegen.checkpoint import Checkpoints

    with tf.Graph().as_default(), tf.Session() as sess:
        weight = tf.get_variable('w', [3], initializer=tf.zeros_initializer())
        damage = weight.assign([0.0, value, 0.0])
        checkpoints = Checkpoints()
        with RunFolder.create(tmp_path / 'run', {}) as run:
            checkpoints.restore(sess, run, 400)
            checkpoints.save(At(0).position)
            assert not checkpoints.went_back(At(50), {'d_loss': 1.0})
            sess.run(damage)
            with pytest.raises(FloatingPointError, match='are NaN or infinite and are not saved'):
                checkpoints.save(At(7).position)
            assert not checkpoints.went_back(At(49), {'d_loss': 1.0})
            batches = At(50)
            assert checkpoints.went_back(batches, {'d_loss': 1.0})
            assert (batches.went_to.step, batches.went_to.divergences) == (0, 1)
            np.testing.assert_array_equal(sess.run(weight), [0, 0, 0])
        assert run.saved_step() == 0


# Seeds and memory ---------------------------------------------------------------------------------


def test_two_seeds_differ(definitions, tiny_pictures, uninterrupted, tmp_path):
    run = trainer.train(definitions, tiny_pictures, run_dir=tmp_path / 'run', seed=4, epochs=1)
    other = RunFolder(uninterrupted).history()
    assert all(a != b for a, b in zip(RunFolder(run).history(), other, strict=False))


def test_nothing_is_left_open(definitions, tiny_pictures, tmp_path):
    """Neither threads nor files; the first training may start pools that stay."""
    import gc
    import threading

    counts = []
    for i in range(3):
        trainer.train(definitions, tiny_pictures, run_dir=tmp_path / str(i), epochs=1)
        gc.collect()
        handles = len(os.listdir('/proc/self/fd')) if Path('/proc/self/fd').exists() else 0
        counts.append((threading.active_count(), handles))
    assert counts[1] == counts[2]
