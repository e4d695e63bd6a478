"""Figures of a run: sizes, contents, files."""

import json

import numpy as np
import pytest
from helpers import untrained_run
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
    assert plot.moving_mean([], [], 25) == ([], [])  # stopped before the first step


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
    assert {name for name in ('d_loss', 'g_loss', 'quality') if shows(image, name)} == shown


def shows(image, name):
    """Tell whether a figure has about the colour of that name."""
    color = [int(plot.COLORS[name][i : i + 2], 16) for i in (1, 3, 5)]
    colors = np.unique(np.asarray(image.convert('RGB')).reshape(-1, 3), axis=0)
    return np.abs(colors.astype(int) - color).max(1).min() < 12


def test_what_d_said_is_drawn_where_the_log_has_it(run):
    (run / 'checkpoints' / 'step_000000.index').touch()
    RunFolder(run).add_scores(0, {'frechet_distance': 3})
    without = plot.loss_curves(run)
    log = [json.loads(line) for line in (run / 'log.jsonl').read_text().splitlines()]
    judged = [line | {'d_real': 0.9, 'd_fake': 0.2} for line in log[50:]]  # continued since then
    (run / 'log.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in log[:50] + judged))
    image = plot.loss_curves(run)
    assert (without.size, image.size) == ((800, 500), (800, 700))
    panel = np.asarray(image.convert('RGB')).astype(int)[225:440]  # the second of three
    orange = np.abs(panel - [0xD5, 0x5E, 0x00]).max(2) < 12
    rows, columns = orange[40:].nonzero()  # below the legend
    assert np.ptp(rows) < 12  # one level line with triangles on it
    assert columns.min() > 400  # from the middle on


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
    pitch = (row.width + 6) // count  # each grid and the gap after it
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


def test_save_figures(tmp_path):
    run = untrained_run(tmp_path / 'run')
    run.log(step=1, d_loss=1.0, g_loss=1.0)
    for step in range(0, 101, 10):
        run.add_samples(step, Image.new('L', (10, 10), step))
    run.add_scores(0, {'frechet_distance': 1, 'class_histogram': [0.5, 0.5], 'n': 9})
    plot.save_figures(run.path, tmp_path / 'images', 'mnist')
    names = ['mnist_losses.png', 'mnist_samples.png', 'mnist_training.gif', 'mnist_walk.png']
    assert sorted(file.name for file in (tmp_path / 'images').iterdir()) == names
    assert Image.open(tmp_path / 'images' / 'mnist_samples.png').size == (30, 30)
    assert Image.open(tmp_path / 'images' / 'mnist_training.gif').n_frames == 11
    names = 'before_after class_histogram corners directions losses timeline truncation walk'
    assert sorted(file.name for file in (run.path / 'figures').iterdir()) == sorted(
        ['training.gif', *(f'{name}.png' for name in names.split())]
    )
    for name, figure in plot.latent_figures(run.path).items():  # the same again
        assert Image.open(run.path / 'figures' / f'{name}.png').tobytes() == figure.tobytes()


def on_circle(degrees):
    """Return latents [..., 2] of length 1 at these angles."""
    return np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], -1).astype('f')


def draw_numbers(z):
    """Draw latents of two numbers in [-2, 2] as 4x4 images: these are its red and its green."""
    colors = np.zeros([len(z), 4, 4, 3], np.uint8)
    colors[..., :2] = np.rint(z * 60 + 125)[:, None, None]
    return colors


def numbers_in(figure, rows, columns, left=0, top=0):
    """Return the numbers [rows, columns, 2] that `draw_numbers` has put into a sheet."""
    middle = np.asarray(figure.convert('RGB')).astype(float)[top + 8 :: 16, left + 8 :: 16]
    assert middle.shape == (rows, columns, 3)
    return (middle[..., :2] - 125) / 60


NEAR = {'rtol': 0, 'atol': 0.05}  # steps of a colour are 1/60, and colours are few


def test_walk_goes_on_arcs_and_comes_back():
    figure = plot.walk(draw_numbers, on_circle([0, 60, 120]), frames=4)
    expected = on_circle([[0, 15, 30, 45], [60, 75, 90, 105], [120, 90, 60, 30]])
    np.testing.assert_allclose(numbers_in(figure, 3, 4), expected, **NEAR)


def test_walk_keeps_what_chooses_a_category():
    z = np.array([[0.5, 1], [-0.5, 2]], np.float32)
    figure = plot.walk(draw_numbers, z, frames=2, kept=1)
    np.testing.assert_allclose(
        numbers_in(figure, 2, 2), [[[0.5, 1], [0.5, 1.5]], [[-0.5, 2], [-0.5, 1.5]]], **NEAR
    )


def test_corners_are_the_four_latents():
    figure = plot.corners(draw_numbers, on_circle([0, 40, 80, 120]), side=3)
    expected = on_circle([[0, 20, 40], [40, 60, 80], [80, 100, 120]])
    np.testing.assert_allclose(numbers_in(figure, 3, 3), expected, **NEAR)


def test_corners_have_the_category_of_the_first():
    z = np.array([[0.5, 1], [0, 1], [1, 2], [-1, 2]], np.float32)
    figure = plot.corners(draw_numbers, z, side=2, kept=1)
    expected = [[[0.5, 1], [0.5, 1]], [[0.5, 2], [0.5, 2]]]
    np.testing.assert_allclose(numbers_in(figure, 2, 2), expected, **NEAR)


def test_truncation_scales_latents():
    z = np.array([[1, -1], [0.5, 0.25], [0, 1]], np.float32)
    figure = plot.truncation(draw_numbers, z, factors=(1.5, 1, 0))
    left = figure.width - 3 * 16
    expected = [1.5 * z, z, 0 * z]
    np.testing.assert_allclose(numbers_in(figure, 3, 3, left=left), expected, **NEAR)


def test_directions_move_one_latent_in_a_row_each():
    z = np.array([0.5, -0.5], np.float32)
    figure = plot.directions(draw_numbers, z, np.eye(2), reach=1, count=3)
    left = figure.width - 3 * 16
    expected = [[[-0.5, -0.5], z, [1.5, -0.5]], [[0.5, -1.5], z, [0.5, 0.5]]]
    numbers = numbers_in(figure, 2, 3, left=left, top=plot.CAPTION_HEIGHT)
    np.testing.assert_allclose(numbers, expected, **NEAR)


@pytest.mark.parametrize(('z_dim', 'kept'), [(12, 3), (4, 3), (3, 0)])
def test_numbers_that_choose_are_kept_but_not_all(z_dim, kept):
    assert plot.kept_numbers(Recipe(z_categories=3), z_dim) == kept


def test_a_sheet_frames_pictures_and_fits_into_a_notebook():
    pictures = np.full([1, 2, 4, 4, 1], 90, np.uint8)
    sheet = plot.sheet(pictures, framed=[(0, 1)]).convert('RGB')
    orange = (0xD5, 0x5E, 0x00)
    assert [sheet.getpixel((x, 0)) for x in (0, 15, 16, 31)] == 2 * [(255,) * 3] + 2 * [orange]
    assert [sheet.getpixel((x, 8)) for x in (2, 13, 18, 29)] == 4 * [(90, 90, 90)]
    widths = {
        side: plot.sheet(np.zeros([1, 9, side, side, 3], np.uint8)).width for side in (28, 64)
    }
    assert widths == {28: 9 * (3 * 28 + 4), 64: 9 * (64 + 4)}
    assert plot.sheet(np.zeros([1, 9, 256, 256, 1], np.uint8)).width == 9 * (256 + 4)


@pytest.mark.parametrize(('share', 'uneven'), [(0.143, False), (0.147, True)])
def test_classes_beyond_chance_are_hatched(share, uneven):
    """3 sqrt(0.1 0.9 / 400) = 0.045 is chance."""
    shares = [share, 0.1, *8 * [(0.9 - share) / 8]]
    figure = plot.class_histogram({'class_histogram': shares, 'n': 400})
    assert shows(figure, 'even')
    assert shows(figure, 'uneven') == uneven


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


def test_every_figure_of_a_run_says_what_it_shows(run):
    """To those who do not see it; and what is shown enlarged and in few colours still does."""
    figures = [plot.loss_curves(run), plot.timeline(run), plot.before_after(run)]
    texts = [plot.few_colors(plot.enlarge(figure)).info[plot.DESCRIPTION] for figure in figures]
    assert texts == [
        'Curves over the steps: losses of discriminator and generator',
        '6 grids of the same latents, from step 0 to step 100',
        'Two grids of the same latents, before the training and after it',
    ]
