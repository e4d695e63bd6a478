"""Figures of a run: sizes, contents, files."""

import numpy as np
import pytest
from PIL import Image

from facegen import plot
from facegen.recipes import CLASSIC, Recipe
from facegen.run import RunFolder


@pytest.fixture
def run(tmp_path):
    run = RunFolder.create(tmp_path / 'run', {'recipe': CLASSIC})
    for step in range(1, 101):
        run.log(step=step, d_loss=1 + 1 / step, g_loss=0.7)
    for step in range(0, 101, 10):
        run.add_samples(step, Image.new('L', (10, 10), step))
    return run.path


def test_moving_mean():
    assert plot.moving_mean([1, 2, 3, 4], [2.0, 4.0, 6.0, 8.0], 2) == ([2, 3, 4], [3.0, 5.0, 7.0])
    assert plot.moving_mean([1], [2.0], 25) == ([1], [2.0])


@pytest.mark.parametrize(
    ('scores', 'height', 'shown'),
    [([], 300, {'d_loss', 'g_loss'}), ([9, 4, 5], 500, {'d_loss', 'g_loss', 'quality'})],
)
def test_curves_show_losses_and_scores_and_are_small(run, tmp_path, scores, height, shown):
    (run / 'checkpoints' / 'step_000000.index').touch()
    for score in scores:
        RunFolder(run).add_scores(0, {'frechet_distance': score})
    image = plot.loss_curves(run)
    assert image.size == (800, height)
    image.save(tmp_path / 'losses.png')
    assert (tmp_path / 'losses.png').stat().st_size < 150_000
    colors = {tuple(color) for color in np.asarray(image.convert('RGB')).reshape(-1, 3)}
    drawn = {
        name
        for name, color in plot.COLORS.items()
        for wanted in [[int(color[i : i + 2], 16) for i in (1, 3, 5)]]
        if min(np.abs(np.subtract(c, wanted)).max() for c in colors) < 12
    }
    assert drawn == shown


def test_loss_curves_of_one_step(tmp_path):
    run = RunFolder.create(tmp_path / 'run', {'recipe': CLASSIC})
    run.log(step=1, d_loss=1.0, g_loss=1.0)
    assert plot.loss_curves(run.path).size == (800, 300)


@pytest.mark.parametrize(
    'recipe', [Recipe(loss='hinge', smoothing=0.0), Recipe(loss='least-squares')]
)
def test_loss_curves_of_losses_below_and_near_zero(tmp_path, recipe):
    run = RunFolder.create(tmp_path / 'run', {'recipe': recipe})
    for step in (1, 2):
        run.log(step=step, d_loss=0.1, g_loss=-3.0)
    assert plot.loss_curves(run.path).size == (800, 300)


def shades(row, count):
    """Return the grey of each grid in a row, below its caption."""
    pitch = (row.width + 6) // count  # each grid and the gap behind it
    return [row.getpixel((i * pitch + 3, row.height - 2)) for i in range(count)]


def test_timeline_is_spread_evenly(run):
    assert shades(plot.timeline(run), 6) == [0, 20, 40, 60, 80, 100]
    assert shades(plot.timeline(run, count=3), 3) == [0, 50, 100]


def test_before_after(run):
    assert shades(plot.before_after(run), 2) == [0, 100]


def test_last_grids_of_several_runs(run, tmp_path):
    other = RunFolder.create(tmp_path / 'other', {})
    other.add_samples(0, Image.new('L', (10, 10), 7))
    assert shades(plot.last_grids({'one': run, 'other': other.path}), 2) == [100, 7]


def test_figures_of_a_run_with_one_grid(tmp_path):
    run = RunFolder.create(tmp_path / 'run', {'recipe': CLASSIC})
    run.add_samples(0, Image.new('RGB', (10, 10)))
    assert plot.timeline(run.path).width == 10
    assert plot.before_after(run.path).mode == 'RGB'


def test_save_figures(run, tmp_path):
    plot.save_figures(run, tmp_path / 'images', 'mnist')
    names = ['mnist_losses.png', 'mnist_samples.png', 'mnist_training.gif']
    assert sorted(file.name for file in (tmp_path / 'images').iterdir()) == names
    assert Image.open(tmp_path / 'images' / 'mnist_samples.png').size == (30, 30)
    assert Image.open(tmp_path / 'images' / 'mnist_training.gif').n_frames == 11


def test_show_outside_a_notebook_does_nothing(capsys):
    plot.show(Image.new('L', (2, 2)))
    assert capsys.readouterr().out == ''


def test_nearest_pictures_puts_the_nearest_below_each():
    pictures = np.random.default_rng(0).integers(0, 256, [20, 4, 4, 3], np.uint8)
    images = np.clip(pictures[[7, 3]].astype(int) + 2, 0, 255).astype(np.uint8)
    figure = np.asarray(plot.nearest_pictures(images, pictures, factor=1, gap=1))
    assert figure.shape == (10, 10, 3)
    np.testing.assert_array_equal(figure[:4, 5:9], images[1])
    np.testing.assert_array_equal(figure[5:9, 5:9], pictures[3])


def test_nearest_pictures_of_one_channel():
    pictures = np.zeros([3, 4, 4, 1], np.uint8)
    assert plot.nearest_pictures(pictures, pictures, factor=2, gap=1).size == (30, 20)
