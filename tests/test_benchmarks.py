"""The benchmarks: each prints valid lines, with a median inside its spread, for small arguments."""

import importlib
import json
import subprocess
import sys

import pytest
from helpers import untrained_run
from PIL import Image

from conftest import ROOT
from facegen.page import save_page

BENCHMARKS = ROOT / 'benchmarks'


def lines_of(name, *arguments):
    """Run a benchmark; return the lines that it prints, each checked."""
    command = [sys.executable, BENCHMARKS / f'{name}.py', *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines
    for line in lines:
        assert line['benchmark'] == name
        spreads = {key: value for key, value in line.items() if key.endswith('_spread')}
        assert spreads or name == 'large'
        for key, (least, most) in spreads.items():
            assert least <= line[key.removesuffix('_spread')] <= most
    return lines


@pytest.fixture
def imported(monkeypatch):
    """Imports a benchmark, or what they share, by name."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


def test_summary_is_median_least_and_most(imported):
    assert imported('measuring').summary('seconds', [3.14159, 1, 2.71828], 2) == {
        'seconds': 2.72,
        'seconds_spread': [1, 3.14],
    }


def test_a_measurement_is_the_last_line_of_a_process(imported):
    assert imported('measuring').in_process('-c', 'print("loud"); print([1, 2])') == [1, 2]
    with pytest.raises(subprocess.CalledProcessError):
        imported('measuring').in_process('-c', 'print(1); raise SystemExit(3)')


def test_memory_of_children_is_seen_at_its_peak(imported):
    """Of 100 MB that a child of a child touches and gives back."""
    child = 'x = b"1" * 100_000_000; import time; time.sleep(1); del x; time.sleep(0.5)'
    code = f'import subprocess, sys; subprocess.run([sys.executable, "-c", {child!r}])'
    with imported('measuring').peak_memory_of_children(0.1) as peak:
        subprocess.run([sys.executable, '-c', code], check=True)
        assert 95 < peak() < 180


def test_step_reports_its_share_of_matrix_products():
    step, product = lines_of(
        'step', '--ways', 'simultaneous', '--steps', 2, '--repeats', 1, '--matrix', 512
    )
    assert step['way'] == 'simultaneous'
    assert product['way'].startswith('matmul-')
    per_image = step['gflops_per_second'] / step['images_per_second']
    assert per_image == pytest.approx(37.2 / 64, rel=0.02)
    share = step['gflops_per_second'] / product['gflops_per_second']
    assert step['share_of_matmul'] == pytest.approx(share, rel=0.1, abs=0.006)


def test_feel_of_an_import():
    (line,) = lines_of('feel', '--measures', 'import', '--repeats', 1)
    assert line['measure'] == 'import helper'
    assert 0.01 < line['seconds'] < 10


@pytest.mark.slow
def test_feel_of_pictures_and_previews(sample_data):
    lines = lines_of(
        'feel', '--measures', 'images', 'previews', '--repeats', 1, '--previews', 2,
        '--grid-every', 50, '--data-dir', sample_data,
    )  # fmt: skip
    seconds = {(line['run'], line['measure']): line['seconds'] for line in lines if 'run' in line}
    for run in 'first', 'later':
        grids = ('grid of the training', 'grid of trained networks')
        order = [seconds[run, f'first {what}'] for what in ('digits', 'faces', *grids)]
        assert 0 < order[0] < order[1] < order[2] < order[3]
    costs = {(line['dataset'], line['measure']) for line in lines if 'dataset' in line}
    assert costs == {
        (name, part)
        for name in ('mnist', 'celeba')
        for part in ('preview', 'checkpoint', 'evaluation')
    }


@pytest.mark.slow
def test_growth_and_its_figure(tmp_path):
    """Two sides, two counts of images and ten epochs: enough for five straight lines and a figure."""
    faces = tmp_path / 'data' / 'celeba_sample'
    faces.mkdir(parents=True)
    for number in range(10):
        Image.new('RGB', (178, 218), (number, 0, 0)).save(faces / f'{number:06}.jpg')
    lines = lines_of(
        'linear', '--sides', 8, 16, '--steps', 1, '--counts', 64, 128, '--epochs', 10,
        '--repeats', 1, '--data-dir', faces.parent, '--figure', tmp_path / 'figure.png',
    )  # fmt: skip
    assert [line['pixels'] for line in lines if 'pixels' in line] == [64, 256]
    assert [line['images'] for line in lines if 'images' in line] == [64, 128] * 2
    assert [line['epochs'] for line in lines if 'epochs' in line] == list(range(1, 11)) * 2
    assert [line['over'] for line in lines if 'over' in line] == [
        'pixels', 'images', 'images', 'epochs', 'epochs',
    ]  # fmt: skip
    assert Image.open(tmp_path / 'figure.png').width > 500
    assert (tmp_path / 'figure.png').stat().st_size < 60_000


def test_straight_lines_and_what_is_none(imported):
    straight_line = imported('linear').straight_line
    assert straight_line({1: 5, 2: 7, 10: 23}) == pytest.approx((3, 2, 0))
    assert straight_line({1: 4, 5: 4, 9: 4}) == pytest.approx((4, 0, 0))
    *_, off = straight_line({1: 1, 4: 16, 16: 256})
    assert off > 0.2


def test_what_scaling_expects(imported, monkeypatch):
    """Two trees: 2 log2(n) latencies for each exchange, and 2 (n - 1) / n of the gradients' bytes."""
    scaling = imported('scaling')
    assert scaling.sent(1000, 1) == 0
    assert scaling.sent(1000, 2) == 4000
    assert scaling.sent(1000, 512) == pytest.approx(8000, rel=0.01)
    assert scaling.exchange_seconds(1000, 3, 8, 1000.0, 0.01) == pytest.approx(5 * 6 * 0.01 + 7.0)
    monkeypatch.setattr(scaling, 'GPU_GFLOPS', 100)
    monkeypatch.setattr(scaling, 'STEP_OVERHEAD', 0.001)
    links = {'in a machine': (4e6, 0.0), 'between machines': (4e5, 0.0)}
    monkeypatch.setattr(scaling, 'LINKS', links)
    alone = scaling.planned(1000, 3, 0.1, 9, 1)  # 9 images of 1 ms
    assert (alone['step_ms'], alone['efficiency'], alone['speed_up']) == (10, 1, 1)
    two = scaling.planned(1000, 3, 0.1, 9, 2)  # 1 ms for 4,000 bytes
    assert (two['exchange_ms'], two['step_ms'], two['efficiency']) == (1, 11, 0.91)
    assert two['speed_up'] == pytest.approx(10 / 6.5, abs=0.01)
    far = scaling.planned(1000, 3, 0.1, 9, 10)
    assert (far['link'], far['exchange_ms'], far['speed_up']) == ('between machines', 18, None)


@pytest.mark.slow
def test_scaling_of_two_workers():
    (line,) = lines_of(
        'scaling', '--workers', 2, '--batches', 4, '--steps', 2, '--repeats', 1, '--recipe', 'classic',
    )  # fmt: skip
    assert 0 < line['exchange_seconds'] < 10
    assert 0 < line['step_seconds'] < 60
    assert line['megabytes_sent'] == 12.5  # 4 bytes of 3,117,700 weights, of 3 channels


@pytest.mark.slow
def test_a_page_draws(tmp_path, chromium):
    save_page(tmp_path / 'tiny.html', untrained_run(tmp_path / 'run'))
    (line,) = lines_of('page', tmp_path / 'tiny.html', '--repeats', 1, '--count', 4)
    assert line['page'] == 'tiny'
    assert line['images'] == 4
    assert 0 <= line['seconds_of_grid'] < 60  # milliseconds, rounded
    assert 0 < line['seconds_to_first'] < 60
    assert line['seconds_to_first_spread'] == [line['seconds_to_first']] * 2


def test_a_large_set(sample_data):
    lines = lines_of('large', '--count', 150, '--side', 8, '--data-dir', sample_data)
    assert [line.get('images') for line in lines] == [150, 150, 150, 150, 128, None, 150, 999]
    *others, all_images, few = (line['megabytes'] for line in lines)
    assert max(others) < 300
    assert 100 < few < 1500
    assert abs(all_images - few) < 150
    assert not list(sample_data.glob('tmp*'))
