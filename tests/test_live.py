"""What one sees of a training run: the area in a real kernel, and text where there is no notebook."""

import base64
import io
import math
import os
import subprocess
import sys
from dataclasses import replace

import nbformat
import numpy as np
import pytest
from helpers import enlarged, noise_image
from nbclient import NotebookClient
from PIL import Image

from conftest import ROOT
from facegen import live, screen
from facegen.curves import Curves
from facegen.images import enlarge, few_colors
from facegen.losses import undecided_losses
from facegen.recipes import CLASSIC
from facegen.run import RunFolder

SETTINGS = {'recipe': CLASSIC, 'batch_size': 2, 'epoch_count': 3, 'print_every': 2}
LINES = [
    {'step': step, 'epoch': 1, 'd_loss': 1 + 1 / step, 'g_loss': 0.7 + step % 3 / 9}
    for step in range(1, 301)
]


def pixels(image):
    return np.asarray(image.convert('RGB'), np.int16)


# The area, its outputs collected ------------------------------------------------------------------


@pytest.fixture
def shown(monkeypatch):
    """What is shown, as {MIME type: data}, instead of showing it."""
    contents = []

    def show(self, content, metadata=None):
        contents.append(content)

    monkeypatch.setattr(screen.Output, 'show', show)
    return contents


@pytest.fixture
def run(tmp_path):
    return RunFolder.create(tmp_path / 'run', {'recipe': CLASSIC})


def note(area, run, *lines):
    for line in lines:
        run.log(**line)
        area.note(line)


def texts(shown):
    return [content['text/plain'] for content in shown if 'image/png' not in content]


def test_the_text_is_that_of_the_latest_step(run, shown):
    with live.LiveArea(run, SETTINGS, 300) as area:
        note(area, run, *LINES[:3])
        run.add_scores(3, {'frechet_distance': 2.5, 'confident_share': 0.5})
        area.show(Image.new('L', (10, 10)))
        area.note_scores()
    bar, losses, score = texts(shown)[-1].splitlines()
    assert '6/600' in bar
    assert losses == ('Epoch 1/3 Step 3... Discriminator Loss: 1.3333... Generator Loss: 0.7000')
    assert score == 'Step 3: Fréchet distance 2.5, confident about 50% of the digits'


COLLAPSE = [
    {'step': 0, 'frechet_distance': 90.0, 'diversity': 0.01},
    {'step': 500, 'frechet_distance': 60.0, 'diversity': 0.02, 'class_kl': 2.3},
    {'step': 1000, 'frechet_distance': 60.0, 'diversity': 0.03, 'class_kl': 2.3},
]
WORKS = {'step': 1500, 'frechet_distance': 2.5, 'diversity': 0.9, 'class_kl': 0.0}


def test_a_collapse_stays_as_one_line_while_it_lasts(run, shown):
    with live.LiveArea(run, SETTINGS, 300) as area:
        for scores in [*COLLAPSE, WORKS]:
            run.add_scores(scores['step'], scores)
            area.note_scores()
            warnings = texts(shown)[-1].splitlines()[2:]
            if scores['step'] == 500:
                assert warnings == [
                    'Step 500: The training has collapsed: its images are nearly all alike (they '
                    'differ 0.02 times as much as real ones). Start again with a lower learning rate '
                    '(it is 0.0003; try 0.00015), then with another seed or recipe.'
                ]
            elif scores['step'] == 1000:
                (line,) = warnings
                assert line.startswith('Step 1000: The training has collapsed (since step 500): ')
            else:
                assert warnings == []


def test_text_tells_of_a_failure_once(run, capsys):
    uneven = WORKS | {'class_kl': 0.5}
    with live.training_bar(run, SETTINGS, 6) as bar:
        for scores in [*COLLAPSE, uneven, uneven | {'step': 2000}, WORKS | {'step': 2500}]:
            run.add_scores(scores['step'], scores)
            bar.note_scores()
    lines = capsys.readouterr().out.splitlines()
    assert [line[:30] for line in lines if 'Fréchet' not in line] == [
        'Step 500: The training has col',
        'Step 1500: The digits are draw',
    ]


def test_what_a_collapse_of_other_pictures_says():
    far = [{'step': step, 'frechet_distance': 90.0, 'diversity': 0.9} for step in (0, 500)]
    (line,) = live.warning_lines(far, CLASSIC).values()
    assert 'its images are hardly nearer to real ones than before the training. Start' in line


def test_a_low_learning_rate_is_slow_unless_the_pictures_were_good_before():
    slow = replace(CLASSIC, learning_rate=1e-5)
    far = [{'step': step, 'frechet_distance': 90.0} for step in (0, 500, 1000)]
    (line,) = live.warning_lines(far, slow).values()
    assert line == (
        'Step 1000: The training has hardly begun: its images are hardly nearer to real ones than '
        'before the training. Go on for longer, or start again with a higher learning rate (it is '
        '1e-05; try 0.0001).'
    )
    far[1]['frechet_distance'] = 9.0
    (line,) = live.warning_lines(far, slow).values()
    assert 'has collapsed: ' in line
    assert '(it is 1e-05; try 5e-06)' in line


def test_an_area_that_went_back_forgets_what_the_run_has_forgotten(run, shown):
    with live.LiveArea(run, SETTINGS, 300) as area:
        note(area, run, *LINES[:5])
        run.cut_back(2, 1000)
        note(area, run, LINES[2])
        assert area.curves.step == 3
        assert area.bar.n == 6


def test_scores_before_any_grid(run, shown):
    """As with a `show_generator_output` of one's own that shows its grids elsewhere."""
    run.log(**LINES[0])
    (run.path / 'checkpoints' / 'step_000001.index').touch()
    run.add_scores(1, {'frechet_distance': 2.5})
    with live.LiveArea(run, SETTINGS, 300) as area:
        area.note_scores()
    assert texts(shown)[-1].endswith('Step 1: Fréchet distance 2.5')


@pytest.mark.parametrize('mode', ['L', 'RGB'])
@pytest.mark.parametrize(
    ('size', 'count', 'side', 'width'),
    [
        (28, 25, 420, 880),
        (28, 100, 280, 740),
        (32, 25, 320, 780),
        (32, 100, 320, 780),
        (64, 25, 320, 780),
        (64, 100, 420, 880),
        (128, 25, 420, 880),
        (128, 100, 420, 880),
    ],
)
def test_the_grid_leaves_room_for_the_curves(run, shown, mode, size, count, side, width):
    """It is sharp, or where it must be reduced as by Lanczos from the pixels as they were."""
    grid = noise_image(mode, math.isqrt(count) * size)
    area = live.LiveArea(run, SETTINGS, 300)
    area.show(enlarge(grid))
    image = pixels(image_of({'data': shown[-1]}))
    area.bar.close()
    assert image.shape == (420, width, 3)
    if side % grid.width == 0:
        expected = enlarged(pixels(grid), side // grid.width)
    else:
        small = enlarge(grid, 1)  # what is shown elsewhere is narrower than 10x128 pixels
        expected = pixels(small.resize((side, side), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(image[:side, :side], expected)
    assert (image[:, side : side + live.GAP] == 255).all()


# A kernel, and none -------------------------------------------------------------------------------


class Watched(NotebookClient):
    """Run a notebook, and note what its kernel sends."""

    def process_message(self, message, cell, cell_index):
        self.seen.append((cell_index, message['msg_type'], message['content']))
        return super().process_message(message, cell, cell_index)


def displays(client, cell_index):
    """Return [(whether it is an update, image or text)] of what a cell displayed."""
    return [
        (kind == 'update_display_data', 'image/png' in content['data'])
        for index, kind, content in client.seen
        if index == cell_index and kind.endswith('display_data')
    ]


def image_of(output):
    return Image.open(io.BytesIO(base64.b64decode(output['data']['image/png'])))


def test_training_runs_in_a_kernel(tiny_pictures, tmp_path):
    """Whatever happens, two outputs of a cell are updated and saved: text and one image."""
    folder = tmp_path / 'run'
    train = (
        f'trainer.train(functions, {str(tiny_pictures)!r}, run_dir={str(folder)!r}, max_steps=%d, '
        'recipe=trainer.tiny_recipe(rate_decay=False));'
    )
    start = (
        f'import sys; sys.path[:0] = {[str(ROOT), str(ROOT / "tests")]}\n'
        'import trainer; from facegen import notebook; functions = notebook.definitions()'
    )
    cells = [start, train % 18, train % 30]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells])
    client = Watched(book, record_timing=False)
    client.seen = []
    client.execute()
    run = RunFolder(folder)
    for index, steps, previews in (1, 18, 6), (2, 30, 4):  # of 0, 4… 16, 18; 20, 24, 28, 30
        *said, text, grid = book.cells[index].outputs
        assert f'run folder: {folder}' in said[-1]['text']
        assert all(output.output_type == 'stream' for output in said)
        bar, losses, score = text['data']['text/plain'].splitlines()
        assert f'100%|██████████| {8 * steps}/{8 * steps}' in bar
        assert f'Step {steps}...' in losses
        assert score.startswith(f'Step {steps}: Fréchet distance ')
        assert (
            grid['data']['text/plain'] == f'the latest grid beside the curves, after step {steps}'
        )
        sent = displays(client, index)
        assert sent.count((False, False)) == sent.count((False, True)) == 1
        assert sent.count((True, True)) == 2 * previews  # grid, score; the last in fewer colours
    image = pixels(image_of(grid))
    _, last = run.samples()[-1]
    last = enlarge(Image.open(last))
    curves = Curves(undecided_losses(run.recipe()), 30, **live.CURVES)
    for line in run.history():
        curves.add(line)
    whole = curves.image(run.scores())
    side = last.width
    assert image.shape == (420, side + live.GAP + 454, 3)
    expected = Image.new('RGB', image.shape[1::-1], 'white')
    expected.paste(last, (0, 0))
    expected.paste(whole, (side + live.GAP, 0))
    np.testing.assert_array_equal(image, pixels(few_colors(expected, 256)))
    assert np.abs(image[:, side + live.GAP :] - pixels(whole)).mean() < 1
    assert len(grid['data']['image/png']) < 60_000


def test_text_in_a_terminal(run, capsys):
    with live.training_bar(run, SETTINGS, 6) as bar:
        bar.show(Image.new('L', (10, 10)))
        note(bar, run, *LINES[4:6])  # a run that was continued
    output, errors = capsys.readouterr()
    assert output == 'Epoch 1/3 Step 6... Discriminator Loss: 1.1667... Generator Loss: 0.7000\n'
    assert '12/12' in errors
    assert 'images/s' in errors
    assert ' 8/12' in errors


TWO_BARS = """
from facegen import live
for name in 'ab':
    with live.training_bar(None, {'batch_size': 2}, 3) as bar:
        bar.begin(0)
"""


def test_an_ipython_without_a_notebook_says_once_that_it_shows_text(tmp_path):
    for shell, times in (['-m', 'IPython', '--no-banner', '--colors=nocolor'], 1), ([], 0):
        done = subprocess.run(
            [sys.executable, *shell, '-c', TWO_BARS],
            cwd=ROOT, env={**os.environ, 'IPYTHONDIR': str(tmp_path)},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout.count('progress is text') == times
        assert '0/6' in done.stderr
