"""Grids and value ranges."""

import numpy as np
import pytest
from helpers import enlarged, noise_image
from PIL import Image

import helper
from facegen.images import as_image, enlarge, few_colors, narrow, unenlarged


def test_grid_is_filled_row_by_row():
    images = np.arange(10, dtype=np.float32)[:, None, None, None] * np.ones([10, 2, 3, 1])
    grid = helper.images_square_grid(images, 'L', value_range=(0, 255))
    assert (grid.mode, grid.size) == ('L', (9, 6))
    expected = np.repeat(np.repeat(np.arange(9).reshape(3, 3), 2, 0), 3, 1)
    np.testing.assert_array_equal(np.array(grid), expected)
    flat = helper.images_square_grid(images[..., 0], 'L', value_range=(0, 255))
    np.testing.assert_array_equal(np.array(flat), expected)


def test_grid_of_colours():
    images = np.zeros([4, 1, 1, 3])
    images[1, ..., 0] = images[2, ..., 1] = images[3, ..., 2] = 1
    grid = helper.images_square_grid(images, 'RGB', value_range=(0, 1))
    assert [grid.getpixel(at) for at in [(0, 0), (1, 0), (0, 1), (1, 1)]] == [
        (0, 0, 0),
        (255, 0, 0),
        (0, 255, 0),
        (0, 0, 255),
    ]


@pytest.mark.parametrize('dtype', [np.float16, np.float32, np.float64])
def test_value_range_maps_its_ends_clips_and_rounds(dtype):
    images = np.array([-2, -1, -0.5, 0, 0.5, 1, 2, 0, 0], dtype).reshape(9, 1, 1, 1)
    grid = helper.images_square_grid(images, 'L', value_range=(-1, 1))
    assert np.array(grid).ravel().tolist() == [0, 0, 64, 128, 191, 255, 255, 128, 128]


def test_without_a_range_least_and_greatest_are_stretched_as_in_the_exercise():
    images = np.random.default_rng(0).normal(size=[9, 4, 4, 3]).astype(np.float32)
    low, high = images.min(), images.max()
    expected = ((images - low) * 255 / (high - low)).astype(np.uint8)
    grid = np.array(helper.images_square_grid(images, 'RGB'))
    np.testing.assert_array_equal(grid[4:8, :4], expected[3])
    assert (grid.min(), grid.max()) == (0, 255)


def test_bytes_are_not_stretched_beyond_their_type():
    images = np.array([0, 100, 200, 250], np.uint8).reshape(4, 1, 1, 1)
    grid = helper.images_square_grid(images, 'L', value_range=(0, 255))
    assert np.array(grid).ravel().tolist() == [0, 100, 200, 250]
    grid = helper.images_square_grid(images, 'L')
    assert np.array(grid).ravel().tolist() == [0, 102, 204, 255]


def test_short_floats_are_stretched_as_long_ones():
    images = np.linspace(-300, 300, 256, dtype=np.float16).reshape(256, 1, 1, 1)
    long = helper.images_square_grid(images.astype(np.float32), 'L')
    assert helper.images_square_grid(images, 'L') == long


def test_constant_pictures_are_grey():
    assert np.unique(helper.images_square_grid(np.full([4, 2, 2, 1], 7.0), 'L')).tolist() == [128]


@pytest.mark.parametrize(
    ('shape', 'mode', 'value_range', 'text'),
    [
        ((4, 2, 2, 1), 'RGB', None, r"mode 'RGB' needs .*\[n, height, width, 3\]; found shape"),
        ((4, 2, 2, 3), 'L', None, "mode 'L' needs"),
        ((4, 2, 2), 'RGB', None, "mode 'RGB' needs"),
        ((0, 2, 2, 1), 'L', None, 'one image or more'),
        ((4, 2, 2, 1), 'CMYK', None, "unknown mode 'CMYK'"),
        ((4, 2, 2, 1), 'L', (1, 1), 'low < high'),
        ((4, 2, 2, 1), 'L', 1, 'low < high'),
    ],
)
def test_bad_grids(shape, mode, value_range, text):
    with pytest.raises(ValueError, match=text):
        helper.images_square_grid(np.zeros(shape), mode, value_range=value_range)


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_grid_of_diverged_pictures(value):
    with pytest.raises(ValueError, match='NaN or infinite'):
        helper.images_square_grid(np.full([4, 2, 2, 1], value), 'L', value_range=(-1, 1))


@pytest.mark.parametrize('mode', ['L', 'RGB'])
@pytest.mark.parametrize(
    ('side', 'factor'), [(140, 3), (280, 3), (160, 3), (320, 2), (293, 3), (294, 2), (880, 1)]
)
def test_enlarged_as_far_as_it_fits_every_pixel_is_a_square(mode, side, factor):
    image = noise_image(mode, side, 5)
    np.testing.assert_array_equal(enlarge(image), enlarged(image, factor))


def test_enlarged_at_most_by_a_factor():
    image = noise_image('L', 5)
    np.testing.assert_array_equal(enlarge(image, 2, 15), enlarged(image, 2))
    np.testing.assert_array_equal(enlarge(image, 9, 15), enlarged(image, 3))


@pytest.mark.parametrize('mode', ['L', 'RGB'])
def test_what_is_too_wide_is_reduced_and_keeps_its_shape_and_its_mean(mode):
    """Columns of black and white become grey: no pixel is skipped."""
    columns = np.zeros([640, 1280], np.uint8)
    columns[:, ::2] = 255
    small = enlarge(Image.fromarray(columns).convert(mode))
    assert (small.size, small.mode) == ((880, 440), mode)
    thirds = np.asarray(enlarge(Image.fromarray(columns), width=320))
    assert thirds.shape == (160, 320)
    assert np.abs(thirds[:, 4:-4].astype(int) - 128).max() < 20
    assert enlarge(Image.new('L', (900, 1)), width=3).size == (3, 1)


@pytest.mark.parametrize('mode', ['L', 'RGB'])
@pytest.mark.parametrize('factor', [1, 2, 3])
def test_an_enlarged_image_is_as_it_was(mode, factor):
    for size in (7, 5), (1, 1), (6, 4):
        image = noise_image(mode, *size)
        assert unenlarged(enlarge(image, factor)) == image


def test_images_that_are_wide_are_made_narrow_one_by_one():
    images = np.zeros([2, 3, 8, 8, 1], np.uint8)
    images[:, 1] = 255  # next to black ones
    np.testing.assert_array_equal(narrow(images, 8), images)
    np.testing.assert_array_equal(narrow(images, 5), images[:, :, :5, :5])
    assert narrow(np.zeros([4, 6, 9, 3], np.uint8), 3).shape == (4, 2, 3, 3)


@pytest.mark.parametrize('side', [100, 700])
def test_few_colours_look_like_all(side):
    """Of a smooth image with a small red spot, whether its palette comes from all its pixels or some."""
    rows, columns = np.mgrid[:side, :side] / side
    pixels = np.stack([255 * rows, 255 * columns, 128 + 0 * rows], axis=2).astype(np.uint8)
    pixels[: side // 8, : side // 8] = 250, 0, 0
    few = few_colors(as_image(pixels))
    assert len(few.getcolors()) <= 128
    difference = np.abs(np.asarray(few.convert('RGB')).astype(int) - pixels)
    assert difference.mean() < 8
    assert difference[: side // 8, : side // 8].max() < 20
