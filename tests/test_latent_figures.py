"""Figures of latents: which latents they show where, and tables of images."""

import numpy as np
import pytest

from facegen import latent_figures
from facegen.images import NOTEBOOK_WIDTH
from facegen.latent_figures import CAPTION_HEIGHT
from facegen.recipes import Recipe


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
    figure = latent_figures.walk(draw_numbers, on_circle([0, 60, 120]), frames=4)
    expected = on_circle([[0, 15, 30, 45], [60, 75, 90, 105], [120, 90, 60, 30]])
    np.testing.assert_allclose(numbers_in(figure, 3, 4), expected, **NEAR)


def test_walk_keeps_what_chooses_a_category():
    z = np.array([[0.5, 1], [-0.5, 2]], np.float32)
    figure = latent_figures.walk(draw_numbers, z, frames=2, kept=1)
    np.testing.assert_allclose(
        numbers_in(figure, 2, 2), [[[0.5, 1], [0.5, 1.5]], [[-0.5, 2], [-0.5, 1.5]]], **NEAR
    )


def test_corners_are_the_four_latents():
    figure = latent_figures.corners(draw_numbers, on_circle([0, 40, 80, 120]), side=3)
    expected = on_circle([[0, 20, 40], [40, 60, 80], [80, 100, 120]])
    np.testing.assert_allclose(numbers_in(figure, 3, 3), expected, **NEAR)


def test_corners_have_the_category_of_the_first():
    z = np.array([[0.5, 1], [0, 1], [1, 2], [-1, 2]], np.float32)
    figure = latent_figures.corners(draw_numbers, z, side=2, kept=1)
    expected = [[[0.5, 1], [0.5, 1]], [[0.5, 2], [0.5, 2]]]
    np.testing.assert_allclose(numbers_in(figure, 2, 2), expected, **NEAR)


def test_truncation_scales_latents():
    z = np.array([[1, -1], [0.5, 0.25], [0, 1]], np.float32)
    figure = latent_figures.truncation(draw_numbers, z, factors=(1.5, 1, 0))
    left = figure.width - 3 * 16
    expected = [1.5 * z, z, 0 * z]
    np.testing.assert_allclose(numbers_in(figure, 3, 3, left=left), expected, **NEAR)


def test_directions_move_one_latent_in_a_row_each():
    z = np.array([0.5, -0.5], np.float32)
    figure = latent_figures.directions(draw_numbers, z, np.eye(2), reach=1, count=3)
    left = figure.width - 3 * 16
    expected = [[[-0.5, -0.5], z, [1.5, -0.5]], [[0.5, -1.5], z, [0.5, 0.5]]]
    numbers = numbers_in(figure, 2, 3, left=left, top=latent_figures.CAPTION_HEIGHT)
    np.testing.assert_allclose(numbers, expected, **NEAR)


@pytest.mark.parametrize(('z_dim', 'kept'), [(12, 3), (4, 3), (3, 0)])
def test_numbers_that_choose_are_kept_but_not_all(z_dim, kept):
    assert latent_figures.kept_numbers(Recipe(z_categories=3), z_dim) == kept


def test_a_sheet_frames_images_and_fits_into_a_notebook():
    images = np.full([1, 2, 4, 4, 1], 90, np.uint8)
    sheet = latent_figures.sheet(images, framed=[(0, 1)]).convert('RGB')
    orange = (0xD5, 0x5E, 0x00)
    assert [sheet.getpixel((x, 0)) for x in (0, 15, 16, 31)] == 2 * [(255,) * 3] + 2 * [orange]
    assert [sheet.getpixel((x, 8)) for x in (2, 13, 18, 29)] == 4 * [(90, 90, 90)]
    widths = {
        side: latent_figures.sheet(np.zeros([1, 9, side, side, 3], np.uint8)).width
        for side in (28, 64)
    }
    assert widths == {28: 9 * (3 * 28 + 4), 64: 9 * (64 + 4)}


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize(
    ('size', 'walk', 'corners', 'truncation', 'directions'),
    [
        (28, 84, 84, 84, 84),
        (32, 64, 96, 96, 96),
        (64, 64, 128, 64, 64),
        (128, 93, 128, None, None),  # as wide as the texts leave room for
    ],
)
def test_figures_fit_into_a_notebook(size, channels, walk, corners, truncation, directions):
    def draw(z):
        return np.zeros([len(z), size, size, channels], np.uint8)

    z = on_circle(np.arange(8) * 10)
    figures = [
        (latent_figures.walk(draw, z[:4]), 9, 4, 0, walk),
        (latent_figures.corners(draw, z[:4]), 5, 5, 0, corners),
        (latent_figures.truncation(draw, z), 8, 4, 0, truncation),
        (latent_figures.directions(draw, z[0], np.eye(2)), 7, 2, CAPTION_HEIGHT, directions),
    ]
    for figure, columns, rows, top, side in figures:
        assert figure.width <= NOTEBOOK_WIDTH
        pitch = (figure.height - top) // rows
        assert figure.width >= columns * pitch
        assert pitch == side + 4 if side else 90 < pitch - 4 < size


def test_images_of_a_sheet_are_reduced_one_by_one():
    images = np.zeros([2, 9, 128, 128, 1], np.uint8)
    images[1] = 120
    sheet = np.asarray(latent_figures.sheet(images).convert('L'))
    assert sheet.shape == (2 * 97, 9 * 97)
    cells = sheet.reshape(2, 97, 9, 97).swapaxes(1, 2)
    for cell, color in (cells[0, 4], 0), (cells[1, 4], 120):
        assert np.unique(cell[2:-2, 2:-2]).tolist() == [color]
        assert np.unique(cell[:2]).tolist() == np.unique(cell[:, -2:]).tolist() == [255]


@pytest.mark.parametrize(('channels', 'few'), [(1, 14), (3, 64)])
def test_larger_images_have_more_colors(channels, few):
    rng = np.random.default_rng(0)
    for size, count in (28, few), (64, 2 * few):
        noise = rng.integers(0, 256, [1, 2, size, size, channels], np.uint8)
        colors = latent_figures.sheet(noise).convert('RGB').getcolors()
        assert 0.9 * count < len(colors) <= count + 1  # and white
