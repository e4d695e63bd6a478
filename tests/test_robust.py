"""That no training is lost: real ones, of several seeds, and the benchmark that counts the failures."""

import importlib
import json
import subprocess
import sys

import pytest

from conftest import ROOT
from facegen import session
from facegen.evaluation import has_collapsed

BENCHMARK = ROOT / 'benchmarks' / 'robust.py'
PRECISIONS = ['float32', 'auto'] if session.uses_bfloat16('auto') else ['float32']


@pytest.fixture
def robust(monkeypatch):
    """The benchmark as a module."""
    monkeypatch.syspath_prepend(BENCHMARK.parent)
    return importlib.import_module('robust')


@pytest.mark.slow
@pytest.mark.parametrize('precision', PRECISIONS)
@pytest.mark.parametrize('seed', [0, 1, 3])
def test_digits_become_digits(robust, sample_data, precision, seed):
    """At step 250 a training that works is past half of the way, and one that is lost never will be."""
    case = robust.Case('digits', 'mnist', 1, looked_at=250)
    line = robust.trained(case, seed, precision, sample_data)
    assert not line['collapsed']
    assert line['scores']['frechet_distance'] < 38  # 59 before the first step


@pytest.mark.slow
def test_faces_become_faces(robust, sample_data):
    case = robust.Case('faces', 'celeba', 1, looked_at=100)
    line = robust.trained(case, 0, 'auto', sample_data)
    assert not line['collapsed']
    assert line['scores']['frechet_distance'] < 90  # 220 before the first step


def line_of(robust, name, seed, precision, distance=1.0, **scores):
    """Make a line of the log."""
    recipe = robust.asdict(robust.settings_of(robust.CASES[name], precision))
    scores = {'frechet_distance': distance, **scores}
    line = {'case': name, 'seed': seed, 'precision': precision, 'recipe': recipe, 'scores': scores}
    return json.loads(json.dumps(line | {'collapsed': distance > 50, 'machine': 'this'}))


def write(log, lines):
    log.write_text(''.join(json.dumps(line) + '\n' for line in lines))


def test_what_the_log_has_is_not_trained_again(robust, tmp_path):
    log, case = tmp_path / 'log.jsonl', 'digits-rate-double'
    jobs = [(case, seed, precision) for seed in range(4) for precision in robust.PRECISIONS]
    assert robust.planned([case], log, 'this', robust.PRECISIONS) == jobs
    assert robust.planned([case], log, 'this', robust.PRECISIONS, 3) == jobs[:6]
    lines = [line_of(robust, *job) for job in jobs]
    write(log, lines[:3])
    assert robust.planned([case], log, 'this', robust.PRECISIONS) == jobs[3:]
    assert robust.planned([case], log, 'another', robust.PRECISIONS) == jobs
    lines[0]['recipe']['learning_rate'] = 1.0
    write(log, lines)
    assert robust.planned([case], log, 'this', robust.PRECISIONS) == jobs[:1]


def test_the_table_has_medians_and_the_worst(robust):
    lines = [
        line_of(robust, 'digits-end', seed, 'auto', distance, confident_share=share)
        for seed, (distance, share) in enumerate([(0.3, 0.99), (60.0, 0.1), (0.4, 0.95)])
    ]
    other = line_of(robust, 'digits-end', 0, 'auto', 99.0)
    other['recipe']['learning_rate'] = 1.0  # of a recipe that was
    heading, _, row = robust.table([*lines, other]).splitlines()
    columns = [column.strip() for column in heading.split('|')]
    cells = dict(zip(columns[1:6], [cell.strip() for cell in row.split('|')][1:6], strict=True))
    assert cells == {
        'case': '`digits-end`',
        'arithmetic': 'auto',
        'trainings': '3',
        'collapsed': '1',
        'Fréchet distance: median': '0.40',
    }
    assert '| 60.00 | 0.950 | 0.100 |' in row
    of_two = robust.report([lines[0], lines[1] | {'machine': 'that'}])
    assert of_two.startswith('this:\n\n| case |')
    assert '\n\nthat:\n\n| case |' in of_two


@pytest.mark.slow
def test_the_command_trains_what_is_missing(robust, sample_data, tmp_path):
    log, case = tmp_path / 'log.jsonl', 'digits-300-steps'
    machine = importlib.import_module('measuring').machine()
    jobs = robust.planned([case], log, machine, PRECISIONS)
    write(log, [line_of(robust, *job) | {'machine': machine} for job in jobs[1:]])
    command = [sys.executable, BENCHMARK, '--cases', case, '--log', log, '--data-dir', sample_data]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (line,) = done.stdout.splitlines()
    assert log.read_text().splitlines()[-1] == line
    line = json.loads(line)
    assert (line['case'], line['seed'], line['precision']) == jobs[0]
    assert line['step'] == 300
    assert not line['collapsed']
    assert line['scores']['frechet_distance'] < 20
    assert not has_collapsed(line['scores'])
    assert robust.planned([case], log, machine, PRECISIONS) == []
