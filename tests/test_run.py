"""The run folder."""

import numpy as np
import pytest
from PIL import Image

from facegen.recipes import CLASSIC
from facegen.run import RunFolder


def test_round_trip(tmp_path):
    run = RunFolder.create(tmp_path / 'runs' / 'a', {'recipe': CLASSIC, 'run_dir': tmp_path})
    run.log(step=1, d_loss=0.5, g_loss=1.0)
    run.log(step=2, d_loss=0.25, g_loss=1.0)
    assert run.config()['recipe']['smoothing'] == 0.1
    assert run.config()['run_dir'] == str(tmp_path)
    assert run.history() == [
        {'step': 1, 'd_loss': 0.5, 'g_loss': 1.0},
        {'step': 2, 'd_loss': 0.25, 'g_loss': 1.0},
    ]


def test_a_second_run_gets_a_folder_of_its_own(tmp_path):
    first, second, third = (RunFolder.create(tmp_path / 'a', {'n': n}) for n in range(3))
    assert [run.path.name for run in (first, second, third)] == ['a', 'a-2', 'a-3']
    assert first.config() == {'n': 0}


def test_an_empty_folder_is_used_and_foreign_files_are_not_mixed(tmp_path, monkeypatch):
    (tmp_path / 'empty').mkdir()
    assert RunFolder.create(tmp_path / 'empty', {}).path.name == 'empty'
    (tmp_path / 'full').mkdir()
    (tmp_path / 'full' / 'file').touch()
    assert RunFolder.create(tmp_path / 'full', {}).path.name == 'full-2'
    with pytest.raises(NotADirectoryError, match='is a file; choose another run folder'):
        RunFolder.create(tmp_path / 'full' / 'file', {})
    monkeypatch.chdir(tmp_path / 'full')
    assert RunFolder.create('.', {}).path.name == 'full-3'


def test_numbers_of_numpy_stay_numbers(tmp_path):
    run = RunFolder.create(tmp_path / 'a', {'z_dim': np.int64(8), 'rate': np.float32(0.5)})
    assert run.config() == {'z_dim': 8, 'rate': 0.5}


def test_samples_are_ordered_by_step_also_beyond_six_digits(tmp_path):
    run = RunFolder.create(tmp_path / 'a', {})
    for step in (1_000_000, 0, 999_999):
        run.add_samples(step, Image.new('L', (2, 2)))
    assert [step for step, _ in run.samples()] == [0, 999_999, 1_000_000]


def test_checkpoint(tmp_path):
    run = RunFolder.create(tmp_path / 'a', {})
    with pytest.raises(FileNotFoundError, match='no weights yet'):
        run.checkpoint()
    for step in (7, 1_000_000):
        (tmp_path / 'a' / 'checkpoints' / f'step_{step:06d}.index').touch()
    assert run.checkpoint() == str(tmp_path / 'a' / 'checkpoints' / 'step_1000000')


def test_no_run_folder(tmp_path):
    (tmp_path / 'file').touch()
    for path in (tmp_path, tmp_path / 'missing', tmp_path / 'file'):
        with pytest.raises(FileNotFoundError, match='is no run folder'):
            RunFolder(path).config()


@pytest.mark.parametrize('text', ['', '{', 'not json'])
def test_damaged_config(tmp_path, text):
    run = RunFolder.create(tmp_path / 'a', {})
    (run.path / 'config.json').write_text(text)
    with pytest.raises(ValueError, match='is damaged'):
        run.config()


def save(run, step):
    """Write what TensorFlow's Saver would."""
    for suffix in 'index', 'data-00000-of-00001':
        (run.path / 'checkpoints' / f'step_{step:06d}.{suffix}').write_text(str(step))


def test_the_best_weights_are_kept(tmp_path):
    run = RunFolder.create(tmp_path / 'a', {})
    assert run.scores() == []
    with pytest.raises(FileNotFoundError, match='holds no best weights'):
        run.checkpoint('best')
    for step, distance in (0, 9.0), (3, 4.0), (6, 5.0):
        save(run, step)
        run.add_scores(step, {'frechet_distance': distance, 'n': 10})
    assert (run.saved_step('last'), run.saved_step('best')) == (6, 3)
    assert run.scores()[1] == {'step': 3, 'frechet_distance': 4.0, 'n': 10}
    assert sorted(file.name for file in (run.path / 'best').iterdir()) == [
        'step_000003.data-00000-of-00001',
        'step_000003.index',
    ]


def test_a_score_that_is_no_number_is_never_the_best(tmp_path):
    run = RunFolder.create(tmp_path / 'a', {})
    for step, distance in (1, float('nan')), (2, 5.0), (3, float('nan')), (4, 4.0):
        save(run, step)
        run.add_scores(step, {'frechet_distance': distance})
    assert run.saved_step('best') == 4
