"""Curves of a training run: thinned series, panels, and that little is drawn anew."""

import math

import numpy as np
import pytest

from facegen.curves import COLORS, MOST_PIECES, Curves, Thinned, moving_mean, rounded_up
from facegen.live import CURVES

LINES = [
    {'step': step, 'epoch': 1, 'd_loss': 1 + 1 / step, 'g_loss': 0.7 + step % 3 / 9}
    for step in range(1, 301)
]
JUDGED = [line | {'d_real': 0.9, 'd_fake': 0.2} for line in LINES]
SCORES = [{'step': 0, 'frechet_distance': 90.0}, {'step': 200, 'frechet_distance': 4.0}]


def curves_of(lines, steps=300, undecided=(1.39, 0.69), **options):
    curves = Curves(undecided, steps, **options)
    for line in lines:
        curves.add(line)
    return curves


def pixels(image):
    return np.asarray(image).astype(int)


def places(image, name):
    """Return the rows and columns of pixels in the colour of that name."""
    color = [int(COLORS[name][i : i + 2], 16) for i in (1, 3, 5)]
    return (np.abs(pixels(image) - color).max(2) < 12).nonzero()


# Series -------------------------------------------------------------------------------------------


@pytest.mark.parametrize('count', [0, 1, 7, 8, 9, 16, 17, 39, 1000])
def test_pieces_of_a_table(count):
    """They are those of the rows themselves, cut into equal parts; never more than 8."""
    rows = np.random.default_rng(count).random([count, 2])
    table = Thinned(2, most=8)
    for row in rows:
        table.add(row)
    parts = [rows[start : start + table.size] for start in range(0, count, table.size)]
    low, mean, high = table.pieces()
    assert len(parts) <= 8
    assert len(parts) > 4 or table.size == 1
    assert low.tolist() == [part.min(0).tolist() for part in parts]
    assert high.tolist() == [part.max(0).tolist() for part in parts]
    np.testing.assert_allclose(mean, np.reshape([part.mean(0) for part in parts], [-1, 2]))


def test_a_missing_number_leaves_out_its_piece_and_column():
    table = Thinned(2, most=4)
    for row in [1, 1], [2, math.nan], [3, 3], [4, 4], [5, math.nan]:
        table.add(row)
    for numbers in table.pieces():
        assert np.isnan(numbers).tolist() == [[False, True], [False, False], [False, True]]


def test_moving_mean():
    assert moving_mean([2.0, 4.0, 6.0, 8.0], 2).tolist() == [3.0, 5.0, 7.0]
    assert moving_mean([2.0, 4.0], 25).tolist() == [3.0]
    assert moving_mean([], 25) == []  # stopped before the first step


@pytest.mark.parametrize(
    ('value', 'limit'), [(0, 0), (1, 1), (1.01, 1.125), (0.13, 0.140625), (-7.9, -8), (900, 960)]
)
def test_limits_are_round(value, limit):
    assert rounded_up(value) == limit


# The figure ---------------------------------------------------------------------------------------


def test_a_finished_figure_grows_with_its_panels():
    sizes = [curves_of(lines).image(scores).size for lines, scores in [
        ([], []), (LINES, []), (LINES, SCORES), (JUDGED, []), (JUDGED, SCORES),
    ]]  # fmt: skip
    assert sizes == [(800, 300), (800, 300), (800, 500), (800, 500), (800, 700)]


def test_what_is_drawn_anew_is_what_would_be_drawn_at_once():
    """Old axes, other panels and moved limits leave nothing behind."""
    curves = curves_of([], **CURVES)
    for number, scores in (
        (0, []),
        (0, SCORES[:1]),
        (100, SCORES[:1]),
        (101, SCORES[:1]),
        (300, SCORES),
    ):
        for line in JUDGED[curves.step : number]:
            curves.add(line)
        image = curves.image(scores)
        assert image.size == (454, 420)
        at_once = curves_of(JUDGED[:number], **CURVES).image(scores)
        np.testing.assert_array_equal(pixels(image), pixels(at_once))
    assert image != curves.image(SCORES[:1] * 2)
    assert image != curves_of(JUDGED[:299], **CURVES).image(SCORES)


def test_what_d_said_is_drawn_where_the_log_has_it():
    image = curves_of(LINES[:150] + JUDGED[150:]).image(SCORES)  # continued since then
    rows, columns = places(image, 'd_fake')
    between = (rows > 270) & (rows < 440)  # in the second of three panels, below the labels
    assert np.ptp(rows[between]) < 12  # one level line of triangles
    assert 400 < columns[between].min() < 480 < 650 < columns[between].max()  # the right half


def test_steps_that_a_log_lacks_are_no_steps_of_the_curve():
    image = curves_of(LINES[:3] + LINES[250:]).image([])
    _, columns = places(image, 'g_loss')
    _, whole = places(curves_of(LINES).image([]), 'g_loss')
    assert columns.max() == whole.max()


def test_one_peak_is_cut_off_and_one_loss_that_is_no_number_left_out():
    plain, image = (curves_of(lines).image([]) for lines in (LINES, [
        *LINES[:200], LINES[200] | {'d_loss': math.inf}, *LINES[201:],
    ]))  # fmt: skip
    assert np.abs(pixels(image) - pixels(plain)).mean() < 0.1
    means = curves_of([LINES[0] | {'d_loss': 9.0}, *LINES[1:]]).image([])
    assert np.abs(pixels(means) - pixels(plain)).mean() < 1


@pytest.mark.parametrize('size', [{}, CURVES])
@pytest.mark.parametrize('undecided', [(1.39, 0.69), (2.0, 0.0), (0.2025, 0.15125)])
@pytest.mark.parametrize('loss', [0.001, 25.0, -3.0, 1234.0])
def test_no_number_reaches_the_edge_of_the_figure(size, undecided, loss):
    lines = [line | {'g_loss': loss} for line in JUDGED]
    image = pixels(curves_of(lines, undecided=undecided, **size).image(SCORES))
    edges = [image[0], image[-1], image[:, 0], image[:, -1]]
    assert all((edge == 255).all() for edge in edges)


@pytest.mark.parametrize('distance', [math.inf, 0.0, 1e-9])
def test_scores_that_a_logarithmic_axis_cannot_show(distance):
    curves_of(LINES).image([{'step': 0, 'frechet_distance': distance}])


def test_the_axis_of_steps_ends_where_the_training_does():
    assert curves_of([]).last_step() == 2
    assert curves_of(LINES[:100]).last_step() == 128
    assert curves_of(LINES[:300]).last_step() == 300
    assert curves_of(LINES[:300], steps=None).last_step() == 512


def test_axes_are_drawn_anew_only_when_they_change():
    """They take most of the time; and however many steps there are, a curve has few pieces."""
    curves, axes = curves_of([], steps=100_000, **CURVES), []
    for step in range(100_000):
        if step % 10_000 == 0:
            curves.image(SCORES)
            axes.append(curves.axes_pixels)
        curves.add(JUDGED[step % 300] | {'step': step + 1})
    assert len({id(each) for each in axes}) <= 7  # 2, 16,384, 32,768, 65,536 and 100,000 steps
    curves.image(SCORES)
    last = curves.axes_pixels
    curves.image(SCORES)
    assert curves.axes_pixels is last
    assert len(curves.series.pieces()[0]) <= MOST_PIECES
