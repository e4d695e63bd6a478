"""Grids and value ranges."""

import numpy as np
import pytest

import helper


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
