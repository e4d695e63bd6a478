"""The benchmark of what pays: its cases are comparable, its table right, and a case trains."""

import importlib
import json

import numpy as np
import pytest
from helpers import DEADLINE
from PIL import Image

from conftest import ROOT
from facegen.run import RunFolder

LINE = {'collapsed': False, 'step': 5, 'seconds': 1}


@pytest.fixture
def studies(monkeypatch):
    """The benchmark as a module."""
    monkeypatch.syspath_prepend(ROOT / 'benchmarks')
    return importlib.import_module('studies')


def test_runs_that_are_compared_are_shown_equally_many_images(studies):
    trainings = importlib.import_module('trainings')
    for case in studies.CASES.values():
        batch_size = trainings.settings_of(case, 'auto').batch_size
        assert dict(case.limits)['max_steps'] * batch_size == studies.SHOWN
    tasks = [str(trainings.task(case, 0, 'auto')) for case in studies.CASES.values()]
    assert len(set(tasks)) == len(tasks)


def test_the_table_has_medians_and_every_value(studies):
    trainings = importlib.import_module('trainings')
    lines = [
        trainings.task(studies.CASES['batch-64'], seed, 'auto')
        | LINE
        | {
            'case': 'batch-64',
            'scores': {'frechet_distance': distance},
            'held_out': {'judged': {'kernel_distance': distance / 1e4}},
        }
        for seed, distance in ((1, 1.0), (0, 3.0), (2, 2.0))  # in the order in which they ended
    ]
    assert studies.table(lines).splitlines() == [
        '| case | runs | steps | Fréchet distance | held out: dlib |',
        '| --- | --- | --- | --- | --- |',
        '| `batch-64` | 3 | 5 | 2.00 (3.00, 1.00, 2.00) | 2.0 (3.0, 1.0, 2.0) |',
    ]


def test_results_have_the_rows_of_the_log(studies):
    trainings = importlib.import_module('trainings')
    lines = trainings.parsed_lines(ROOT / 'benchmarks' / 'studies.jsonl', ())
    rows = trainings.report(list(lines), studies.table).splitlines()
    results = (ROOT / 'benchmarks' / 'RESULTS.md').read_text(encoding='utf-8').splitlines()
    missing = [row for row in rows if row.startswith('| `') and row not in results]
    assert not missing


@pytest.mark.slow
def test_a_part_of_the_faces_at_another_size(studies, sample_data):
    trainings = importlib.import_module('trainings')
    case = studies.study('faces', 32, images=70, augmentations=('colour',))
    case = case._replace(limits=(('max_steps', 2),))
    dataset, reference, held_out = trainings.opened(case, 0, sample_data)
    assert dataset.shape == (70, 32, 32, 3)
    assert reference.shape == (999, 32, 32, 3)
    assert held_out is None
    line = trainings.trained(case, 0, 'float32', sample_data)
    assert line['step'] == 2
    assert line['settings']['images'] == 70
    assert line['settings']['recipe']['image_size'] == 32
    assert line['scores']['frechet_distance'] > 10


@pytest.fixture
def data_with_more(sample_data, tmp_path):
    """A data folder that holds 100 more faces (of the sample, for want of others), cut to squares."""
    (tmp_path / 'celeba_sample').symlink_to(sample_data / 'celeba_sample')
    folder = tmp_path / 'more_faces_108'
    folder.mkdir()
    for file in sorted((sample_data / 'celeba_sample').glob('*.jpg'))[:100]:
        with Image.open(file) as image:
            image.crop((35, 55, 143, 163)).save(folder / f'{file.stem}.png')
    return tmp_path


@pytest.mark.slow
def test_more_faces_are_trained_on_but_for_those_held_out(studies, data_with_more, monkeypatch):
    trainings = importlib.import_module('trainings')
    case = studies.HOURS['hour-more-faces-28']._replace(limits=(('max_steps', 2),))
    with pytest.raises(
        SystemExit, match=r'found 100 PNG files in .*more_faces_108; put more than 16,000'
    ):
        trainings.opened(case, 0, data_with_more)
    monkeypatch.setattr(trainings, 'MORE', 70)
    dataset, reference, held_out = trainings.opened(case, 0, data_with_more)
    assert [len(pixels) for pixels in (dataset.pixels, reference, held_out)] == [70, 999, 30]
    # The same pixels, cut by another program
    assert np.abs(np.r_[dataset.pixels, held_out].astype(int) - reference[:100]).mean() < 1
    line = trainings.trained(case, 0, 'float32', data_with_more)
    assert line['step'] == 2
    of_real = line['held_out']['frechet_distance_of_trained_on']
    assert of_real < line['held_out']['frechet_distance'] / 2


def test_more_faces_are_asked_for_where_they_are_missing(studies, sample_data):
    trainings = importlib.import_module('trainings')
    with pytest.raises(SystemExit, match=r'found 0 PNG files in .*more_faces_108'):
        trainings.opened(studies.HOURS['hour-more-faces-28'], 0, sample_data)


@pytest.mark.slow
def test_a_stopped_training_goes_on_where_it_was(studies, sample_data, stop_at, tmp_path):
    trainings = importlib.import_module('trainings')
    case = trainings.Case('faces', 'celeba', 1, limits=(('max_steps', 4),), images=70)
    arguments = case, 1, 'float32', sample_data
    unbroken = trainings.trained(*arguments, run_dir=tmp_path / 'unbroken')
    stop_at(2)
    with pytest.raises(SystemExit, match='stopped after step 2'):
        trainings.trained(*arguments, run_dir=tmp_path / 'stopped')
    run = RunFolder(tmp_path / 'stopped')
    file = run.path / 'checkpoints' / 'step_000002.json'
    position = json.loads(file.read_text())
    file.write_text(json.dumps(position | {'seconds': position['seconds'] + 5000}))
    resumed = trainings.trained(*arguments, run_dir=tmp_path / 'stopped')
    assert 5000 < resumed['seconds'] < 5000 + DEADLINE
    assert resumed | {'seconds': unbroken['seconds']} == unbroken
    assert sorted(tmp_path.iterdir()) == [tmp_path / 'stopped', tmp_path / 'unbroken']


def test_the_kernel_distance_of_the_judge_is_that_of_the_project(studies):
    """Both are unbiased, with the kernel (x y / d + 1)^3."""
    from facegen.metrics import kernel_distance

    rng = np.random.default_rng(0)
    a, b = rng.normal(size=[300, 8]), rng.normal(0.3, 1.0, size=[300, 8])
    ours, _ = kernel_distance(a, b)
    judge = importlib.import_module('judge')
    assert judge.kernel_distance(a, b) == pytest.approx(ours, rel=1e-6)
    np.testing.assert_allclose(judge.nearest_distances(a, a), 0, atol=1e-12)
    others = judge.nearest_distances(a, a, skip=1)
    assert others.min() > 0
