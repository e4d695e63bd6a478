"""Figures of a run: sizes, contents, files."""

import math

import numpy as np
import pytest
from helpers import enlarged, noise_image, untrained_run
from PIL import Image

from facegen import curves, figures
from facegen.images import DESCRIPTION, NOTEBOOK_WIDTH, enlarge, few_colors
from facegen.latent_figures import CAPTION_HEIGHT, latent_figures
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


@pytest.mark.parametrize(
    ('scores', 'height', 'shown'),
    [([], 300, {'d_loss', 'g_loss'}), ([9, 4, 5], 500, {'d_loss', 'g_loss', 'quality'})],
)
def test_curves_show_losses_and_scores_and_are_small(run, tmp_path, scores, height, shown):
    (run / 'checkpoints' / 'step_000000.index').touch()
    for score in scores:
        RunFolder(run).add_scores(0, {'frechet_distance': score})
    image = figures.loss_curves(run)
    assert image.size == (800, height)
    image.save(tmp_path / 'losses.png')
    assert (tmp_path / 'losses.png').stat().st_size < 150_000
    assert {
        name for name in ('d_loss', 'g_loss', 'quality') if shows(image, curves.COLORS[name])
    } == shown


def shows(image, color):
    """Tell whether a figure has about that colour, '#rrggbb'."""
    color = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    colors = np.unique(np.asarray(image.convert('RGB')).reshape(-1, 3), axis=0)
    return np.abs(colors.astype(int) - color).max(1).min() < 12


def test_curves_of_a_run_that_was_continued_with_what_d_said(run):
    for step in range(101, 201):
        RunFolder(run).log(step=step, d_loss=1.0, g_loss=0.7, d_real=0.9, d_fake=0.2)
    image = figures.loss_curves(run)
    assert image.size == (800, 500)
    assert 'discriminator said' in image.info[DESCRIPTION]


def test_loss_curves_of_one_step(tmp_path):
    run = RunFolder.create(tmp_path / 'run', {'recipe': CLASSIC})
    run.log(step=1, d_loss=1.0, g_loss=1.0)
    assert figures.loss_curves(run.path).size == (800, 300)


@pytest.mark.parametrize(
    'recipe', [Recipe(loss='hinge', smoothing=0.0), Recipe(loss='least-squares')]
)
def test_loss_curves_of_losses_below_and_near_zero(tmp_path, recipe):
    run = RunFolder.create(tmp_path / 'run', {'recipe': recipe})
    for step in (1, 2):
        run.log(step=step, d_loss=0.1, g_loss=-3.0)
    assert figures.loss_curves(run.path).size == (800, 300)


def shades(row, count):
    """Return the grey of each grid in a row, below its caption."""
    pitch = (row.width + 6) // count  # each grid and the gap after it
    return [row.getpixel((i * pitch + 3, row.height - 2)) for i in range(count)]


def test_timeline_is_spread_evenly(run):
    assert shades(figures.timeline(run), 6) == [0, 20, 40, 60, 80, 100]
    assert shades(figures.timeline(run, count=3), 3) == [0, 50, 100]


def test_before_after(run):
    assert shades(figures.before_after(run), 2) == [0, 100]


def test_last_grids_of_several_runs(run, tmp_path):
    other = RunFolder.create(tmp_path / 'other', {})
    other.add_samples(0, Image.new('L', (10, 10), 7))
    assert shades(figures.last_grids({'one': run, 'other': other.path}), 2) == [100, 7]


@pytest.mark.parametrize('mode', ['L', 'RGB'])
@pytest.mark.parametrize(
    ('size', 'count', 'timeline', 'before_after'),
    [
        (28, 25, 140, 280),
        (28, 100, 141, 280),
        (32, 25, 141, 320),
        (32, 100, 141, 320),
        (64, 25, 141, 320),
        (64, 100, 141, 437),
        (128, 25, 141, 437),
        (128, 100, 141, 437),
    ],
)
def test_grids_fit_into_a_notebook(tmp_path, mode, size, count, timeline, before_after):
    """They are sharp, or where they must be reduced as by Lanczos, and all in a row are alike."""
    run = RunFolder.create(tmp_path / 'run', {'recipe': CLASSIC})
    grid = noise_image(mode, math.isqrt(count) * size)
    for step in range(6):
        run.add_samples(step, grid)
    for row, grids, side in (
        (figures.timeline(run.path), 6, timeline),
        (figures.before_after(run.path), 2, before_after),
    ):
        assert row.width == grids * (side + 6) - 6 <= NOTEBOOK_WIDTH
        if side % grid.width == 0:
            expected = enlarged(grid, side // grid.width)
        else:
            expected = np.asarray(grid.resize((side, side), Image.Resampling.LANCZOS))
        for left in range(0, row.width, side + 6):
            shown = np.asarray(row)[CAPTION_HEIGHT:, left : left + side]
            np.testing.assert_array_equal(shown, expected)
    assert Image.open(run.samples()[-1][1]).tobytes() == grid.tobytes()


@pytest.mark.parametrize('mode', ['L', 'RGB'])
@pytest.mark.parametrize(
    ('size', 'count', 'side'),
    [
        (28, 25, 280),
        (28, 100, 560),
        (32, 25, 320),
        (32, 100, 640),
        (64, 25, 640),
        (64, 100, 640),
        (128, 25, 640),
        (128, 100, 880),
    ],
)
def test_a_film_fits_into_a_notebook(tmp_path, mode, size, count, side):
    run = RunFolder.create(tmp_path / 'run', {'recipe': CLASSIC})
    grid = math.isqrt(count) * size
    for step, color in enumerate(('black', 'white')):
        run.add_samples(step, Image.new(mode, (grid, grid), color))
    figures.save_film(run.path, tmp_path / 'film.gif')
    film = Image.open(tmp_path / 'film.gif')
    assert (film.size, film.n_frames) == ((side, side), 2)


def test_more_last_grids_than_fit_are_as_large_as_those_that_do(tmp_path):
    runs = {}
    for name in 'abcdefg':
        run = RunFolder.create(tmp_path / name, {})
        run.add_samples(0, Image.new('L', (160, 160)))
        runs[name] = run.path
    assert figures.last_grids(runs).size == (7 * 147 - 6, CAPTION_HEIGHT + 141)
    del runs['g']
    assert figures.last_grids(runs).width == 6 * 147 - 6


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize(('size', 'width'), [(28, 600), (32, 680), (64, 660), (128, 880)])
def test_nearest_images_fit_into_a_notebook(size, width, channels):
    images = np.random.default_rng(0).integers(0, 256, [10, size, size, channels], np.uint8)
    figure = figures.nearest_images(images, images)
    assert figure.width == width
    if size < 128:
        factor = width // (10 * (size + 2))
        side = factor * size
        first = np.asarray(figure)[:side, :side].reshape(side, side, channels)
        np.testing.assert_array_equal(first, enlarged(images[0], factor))


def test_figures_of_a_run_with_one_grid(tmp_path):
    run = RunFolder.create(tmp_path / 'run', {'recipe': CLASSIC})
    run.add_samples(0, Image.new('RGB', (10, 10)))
    assert figures.timeline(run.path).width == 10
    assert figures.before_after(run.path).mode == 'RGB'


def test_save_figures(tmp_path):
    run = untrained_run(tmp_path / 'run')
    run.log(step=1, d_loss=1.0, g_loss=1.0)
    for step in range(0, 101, 10):
        run.add_samples(step, Image.new('L', (10, 10), step))
    run.add_scores(0, {'frechet_distance': 1, 'class_histogram': [0.5, 0.5], 'n': 9})
    figures.save_figures(run.path, tmp_path / 'images', 'mnist')
    names = ['mnist_losses.png', 'mnist_samples.png', 'mnist_training.gif', 'mnist_walk.png']
    assert sorted(file.name for file in (tmp_path / 'images').iterdir()) == names
    assert Image.open(tmp_path / 'images' / 'mnist_samples.png').size == (30, 30)
    assert Image.open(tmp_path / 'images' / 'mnist_training.gif').n_frames == 11
    names = 'before_after class_histogram corners directions losses timeline truncation walk'
    assert sorted(file.name for file in (run.path / 'figures').iterdir()) == sorted(
        ['training.gif', *(f'{name}.png' for name in names.split())]
    )
    for name, figure in latent_figures(run.path).items():  # the same again
        assert Image.open(run.path / 'figures' / f'{name}.png').tobytes() == figure.tobytes()


@pytest.mark.parametrize(('share', 'uneven'), [(0.143, False), (0.147, True)])
def test_classes_beyond_chance_are_hatched(share, uneven):
    """3 sqrt(0.1 0.9 / 400) = 0.045 is chance."""
    shares = [share, 0.1, *8 * [(0.9 - share) / 8]]
    figure = figures.class_histogram({'class_histogram': shares, 'n': 400})
    assert shows(figure, figures.EVEN)
    assert shows(figure, figures.UNEVEN) == uneven


def test_nearest_images_puts_the_nearest_below_each():
    images = np.random.default_rng(0).integers(0, 256, [20, 4, 4, 3], np.uint8)
    samples = np.clip(images[[7, 3]].astype(int) + 2, 0, 255).astype(np.uint8)
    figure = np.asarray(figures.nearest_images(samples, images, factor=1, gap=1))
    assert figure.shape == (10, 10, 3)
    np.testing.assert_array_equal(figure[:4, 5:9], samples[1])
    np.testing.assert_array_equal(figure[5:9, 5:9], images[3])


def test_nearest_images_may_be_mirror_images():
    images = np.random.default_rng(0).integers(0, 256, [20, 4, 4, 3], np.uint8)
    samples = np.stack([images[7], images[3, :, ::-1]])
    figure = np.asarray(figures.nearest_images(samples, images, mirrored=True, factor=1, gap=1))
    np.testing.assert_array_equal(figure[:4], figure[5:9])


def test_nearest_images_of_one_channel():
    images = np.zeros([3, 4, 4, 1], np.uint8)
    assert figures.nearest_images(images, images, factor=2, gap=1).size == (30, 20)


def test_every_figure_of_a_run_says_what_it_shows(run):
    """To those who do not see it; and what is shown enlarged and in few colours still does."""
    drawn = [figures.loss_curves(run), figures.timeline(run), figures.before_after(run)]
    texts = [few_colors(enlarge(figure)).info[DESCRIPTION] for figure in drawn]
    assert texts == [
        'Curves over the steps: losses of discriminator and generator',
        '6 grids of the same latents, from step 0 to step 100',
        'Two grids of the same latents, before the training and after it',
    ]
