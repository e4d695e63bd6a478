"""That no training is lost: real ones with several seeds, and the benchmark that counts failures."""

import importlib
import json
import subprocess
import sys

import pytest

from conftest import ROOT
from facegen import session

BENCHMARK = ROOT / 'benchmarks' / 'robust.py'
HAS_BFLOAT16 = session.uses_bfloat16('auto')


@pytest.fixture(autouse=True)
def of_benchmarks(monkeypatch):
    """The benchmark and what it is made of can be imported."""
    monkeypatch.syspath_prepend(BENCHMARK.parent)


@pytest.fixture
def robust():
    """The benchmark as a module."""
    return importlib.import_module('robust')


@pytest.fixture
def trainings():
    """What it is made of, as a module."""
    return importlib.import_module('trainings')


@pytest.mark.slow
@pytest.mark.parametrize('precision', ['float32', 'auto'] if HAS_BFLOAT16 else ['float32'])
@pytest.mark.parametrize('seed', [0, 1, 2])
def test_digits_become_digits(trainings, sample_data, precision, seed):
    """By step 400 a training run that works is at a distance of 11, and one that is lost is at 55."""
    case = trainings.Case('digits', 'mnist', 1, looked_at=400)
    line = trainings.trained(case, seed, precision, sample_data)
    assert not line['collapsed']
    assert line['scores']['frechet_distance'] < 20  # 59 before the first step


@pytest.mark.slow
def test_faces_become_faces(trainings, sample_data):
    """They begin slowly: distances of 221 before the first step, 174 at step 150, 39 at step 300."""
    case = trainings.Case('faces', 'celeba', 1, looked_at=300)
    line = trainings.trained(case, 0, 'auto', sample_data)
    assert line['scores']['frechet_distance'] < 90


ABOUT = {'machine': 'this, bfloat16', 'cores': 2}


def done(line, distance=1.0, **scores):
    """Return a planned line as it is logged when the training is over."""
    return line | {'collapsed': distance > 50, 'scores': {'frechet_distance': distance, **scores}}


def write(log, lines):
    log.write_text(''.join(json.dumps(line) + '\n' for line in lines))


def plan_of(robust, names, log, about, *options, **more):
    """Return what is to do of cases by name."""
    cases = {name: robust.CASES[name] for name in names}
    planned = importlib.import_module('trainings').planned
    return planned('robust', cases, log, about, *options, **more)


def test_what_the_log_has_is_not_trained_again(robust, tmp_path):
    log, cases = tmp_path / 'log.jsonl', ['digits-rate-double']

    def planned(*options, **about):
        return plan_of(robust, cases, log, ABOUT | about, *options)

    plan = planned()
    assert [(line['seed'], line['precision']) for line in plan] == [
        (seed, precision) for seed in range(4) for precision in ('float32', 'auto')
    ]
    assert planned(3) == plan[:6]
    write(log, map(done, plan[:3]))
    assert planned() == plan[3:]
    with log.open('a') as file:
        file.write('{"case": "digi')  # the machine was switched off here
    assert planned() == plan[3:]
    assert planned(machine='another') == [line | {'machine': 'another'} for line in plan]
    assert planned(cores=1) == [line | {'cores': 1} for line in plan]
    only = plan_of(robust, [*cases, 'dcgan'], log, ABOUT, 1, has_bfloat16=False)
    assert [(line['case'], line['precision']) for line in only] == [('dcgan', 'auto')]
    other = json.loads(json.dumps(plan[0]))
    other['settings']['recipe']['learning_rate'] = 1.0
    write(log, map(done, [other, *plan[1:]]))
    assert planned() == plan[:1]


def test_the_table_has_medians_and_the_worst(robust, trainings, tmp_path):
    plan = plan_of(robust, ['digits-end'], tmp_path / 'log.jsonl', ABOUT)[1:8:2]
    scores = (0.3, 0.99), (60.0, 0.1), (0.4, 0.95)
    lines = [
        done(line, distance, confident_share=share)
        for line, (distance, share) in zip(plan[:3], scores, strict=True)
    ]
    other = json.loads(json.dumps(plan[3]))
    other['settings']['limits'] = [['epoch_count', 99]]  # as it once was
    assert robust.table([*lines, done(other, 99.0)]).splitlines()[2:] == [
        '| `digits-end` | bfloat16 | 3 | 1 | 0.40 | 60.00 | 0.950 | 0.100 |  |  |'
    ]
    of_two = trainings.report([lines[0], lines[1] | {'machine': 'that', 'cores': 1}], robust.table)
    assert of_two.startswith('this, bfloat16; 2 cores a training run:\n\n| case |')
    assert '\n\nthat; 1 core a training run:\n\n| case |' in of_two


@pytest.mark.slow
def test_the_command_trains_what_is_missing(robust, sample_data, tmp_path):
    log, case = tmp_path / 'log.jsonl', 'digits-300-steps'
    about = {'machine': importlib.import_module('measuring').machine()}
    about['cores'] = session.cpu_count()
    plan = plan_of(robust, [case], log, about, has_bfloat16=HAS_BFLOAT16)
    write(log, map(done, plan[1:]))
    command = [sys.executable, BENCHMARK, '--cases', case, '--log', log, '--data-dir', sample_data]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    (text,) = result.stdout.splitlines()
    assert log.read_text().splitlines()[-1] == text
    line = json.loads(text)
    assert plan[0] == {name: line[name] for name in plan[0]}
    assert line['step'] == 300
    assert not line['collapsed']
    assert line['scores']['frechet_distance'] < 40
    assert plan_of(robust, [case], log, about, has_bfloat16=HAS_BFLOAT16) == []


def test_a_training_that_fails_is_told_and_not_logged(robust, tmp_path):
    """Here for want of a folder to put the data into."""
    log, nowhere = tmp_path / 'log.jsonl', tmp_path / 'file' / 'data'
    nowhere.parent.touch()
    command = [sys.executable, BENCHMARK, '--cases', 'faces-start', '--seeds', '1']
    command += ['--log', log, '--data-dir', nowhere]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert "['faces-start', 0, 'float32'] ended with 1:" in result.stderr
    assert not log.exists()
