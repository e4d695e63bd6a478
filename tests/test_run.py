"""The run folder."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from facegen.recipes import CLASSIC, DIGITS
from facegen.run import RunFolder, hindrances


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


def test_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.setenv('USERPROFILE', str(tmp_path))  # on Windows
    assert RunFolder.create('~/runs/a', {}).path == tmp_path / 'runs' / 'a'


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


def test_a_run_of_an_earlier_version_is_read_by_the_names_of_this_one(tmp_path):
    run = RunFolder.create(tmp_path / 'run', {'recipe': DIGITS})
    file = run.path / 'config.json'
    text = file.read_text()
    old = text.replace('"gamma"', '"r1_weight"').replace('"simultaneous"', '"together"')
    assert old != text
    file.write_text(old)
    assert run.recipe() == DIGITS
    assert hindrances(run.config(), {'recipe': json.loads(text)['recipe']}) == []


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


def test_a_killed_start_is_no_run(tmp_path):
    """Before its settings are complete, a folder is as good as empty."""
    (tmp_path / 'a').mkdir()
    for name in '.lock', 'config.json.partial':
        (tmp_path / 'a' / name).touch()
    assert RunFolder.create(tmp_path / 'a', {}).path.name == 'a'


def test_two_new_runs_at_once(tmp_path):
    """The lock decides, even before the first has written its settings."""
    first = RunFolder(tmp_path / 'a')
    assert first.claim()
    assert RunFolder.create(tmp_path / 'a', {}).path.name == 'a-2'


def test_a_last_line_that_was_cut_is_no_line(tmp_path):
    run = RunFolder.create(tmp_path / 'a', {})
    run.log(step=1, d_loss=0.5, g_loss=1.0)
    with (run.path / 'log.jsonl').open('a') as file:
        file.write('{"step": 2, "d_l')
    assert [line['step'] for line in run.history()] == [1]
    assert run.logged_steps() == 1


@pytest.mark.parametrize('line', ['', 'x', '[]', '1', '{"step": 2}', '[' * 100_000, '\0'])
def test_a_damaged_line(tmp_path, line):
    run = RunFolder.create(tmp_path / 'a', {})
    run.log(step=1, d_loss=0.5, g_loss=1.0)
    with (run.path / 'log.jsonl').open('a') as file:
        file.write(line + '\n')
    with pytest.raises(ValueError, match=r'log.jsonl, line 2, is damaged .*; restore or delete it'):
        run.history()
    assert run.logged_steps() == 1


def test_foreign_names_are_no_samples(tmp_path):
    run = RunFolder.create(tmp_path / 'a', {})
    for name in 'step_best.png', 'step_1.png', 'step_000001.png.partial', 'step_000002.png':
        (run.path / 'samples' / name).touch()
    assert [step for step, _ in run.samples()] == [2]


def test_the_newest_of_a_family_comes_first(tmp_path):
    for age, name in enumerate(['a-3', 'a', 'a-12']):
        run = RunFolder.create(tmp_path / name, {})
        os.utime(run.path / 'config.json', (age, age))
    for name in 'a-b', 'ab', 'a-', 'a-4':
        (tmp_path / name).mkdir()
    found = [run.path.name for run in RunFolder.family(tmp_path / 'a')]
    assert found == ['a-12', 'a', 'a-3']
    assert RunFolder.family(tmp_path / 'missing' / 'a') == []


def test_hindrances():
    stored = {'seed': 1, 'minutes': None, 'run_dir': 'a', 'recipe': {'rate_decay': False}}
    assert hindrances(stored, stored | {'minutes': 3, 'run_dir': 'b', 'tensorflow': '9'}) == []
    assert hindrances(stored, stored | {'seed': 2}) == ['seed is 2, was 1']
    decaying = stored | {'recipe': {'rate_decay': True}}
    assert hindrances(decaying, decaying | {'minutes': 3}) == ['minutes is 3, was None']
    assert hindrances({}, {'seed': 1}) == ["seed is 1, was 'not given'"]
    assert hindrances({'recipe': 3}, {'recipe': 3}) == []


def test_faces_of_a_run_before_there_was_a_choice_of_the_crop():
    old = {'data': {'sha256': 'a', 'seed': 0}}
    assert hindrances(old, {'data': old['data'] | {'crop': 108}}) == []
    assert hindrances(old, old) == []
    assert hindrances(old, {'data': old['data'] | {'crop': 140}}) == ['data.crop is 140, was 108']
    assert hindrances({'data': None}, {'data': None}) == []


@pytest.mark.parametrize(
    'text',
    ['', '{}', '[]', '{"step": 5.5}', '{"step": -1}', '{"step": 7}', '{"a": 1}', '[' * 99_999],
)
def test_damaged_positions(tmp_path, text):
    run = RunFolder.create(tmp_path / 'a', {})
    (run.path / 'checkpoints' / 'step_000005.json').write_text(text)
    with pytest.raises(ValueError, match='is damaged'):
        run.position(5)
