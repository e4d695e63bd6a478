"""Scores of digits and of other images: that each moves the right way, and what is refused."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from facegen import evaluation
from facegen.digits import digit_features
from facegen.recipes import CLASSIC

SHIFTS = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]


def noisy(images, amount):
    noise = np.random.default_rng(1).normal(0, amount, images.shape)
    return np.clip(images + noise, 0, 255).astype(np.uint8)


def blurred(images, times):
    for _ in range(times):
        images = sum(np.roll(images.astype(np.float32), shift, (1, 2)) for shift in SHIFTS) / 9
    return np.rint(images).astype(np.uint8)


@pytest.fixture(scope='module')
def real(sample_digits):
    """What 1,000 sample digits score, those of other tests."""
    return evaluation.digit_scores(sample_digits[:1000], sample_digits, 0)


def test_real_digits_score_well(real):
    assert 0.02 < real['frechet_distance'] < 1
    assert abs(real['kernel_distance']) < 4 * real['kernel_distance_standard_error']
    assert real['precision'] > 0.8
    assert real['recall'] > 0.8
    assert real['mean_confidence'] > 0.98
    assert real['confident_share'] > 0.97
    assert real['class_kl'] < 0.001
    np.testing.assert_allclose(real['class_histogram'], 0.1, atol=0.005)


@pytest.mark.parametrize('damage', [noisy, blurred])
def test_damaged_digits_score_worse_step_by_step(sample_digits, real, damage):
    steps = {noisy: (20, 80), blurred: (1, 3)}[damage]
    better = real
    for amount in steps:
        worse = evaluation.digit_scores(damage(sample_digits[:1000], amount), sample_digits, 0)
        for name in 'frechet_distance', 'kernel_distance':
            assert worse[name] > 1.5 * better[name], name
        for name in 'precision', 'mean_confidence', 'confident_share':
            assert worse[name] < better[name], name
        better = worse
    assert worse['precision'] < 0.6
    assert worse['kernel_distance'] > 10 * worse['kernel_distance_standard_error']


def test_dropped_classes(sample_digits, real):
    """Without c of 10 classes, the KL from uniform is log(10 / (10 - c))."""
    better = real
    for dropped in 1, 5:
        left = sample_digits[np.arange(5000) % 10 >= dropped][:1000]
        worse = evaluation.digit_scores(left, sample_digits, 0)
        assert worse['class_kl'] == pytest.approx(np.log(10 / (10 - dropped)), abs=0.02)
        assert worse['frechet_distance'] > 2 * better['frechet_distance']
        assert worse['precision'] == pytest.approx(real['precision'], abs=0.05)
        better = worse
    assert worse['recall'] < real['recall'] - 0.15  # one class of ten is lost in the noise


def test_duplicated_digits(sample_digits, real):
    copies = evaluation.digit_scores(np.repeat(sample_digits[:50], 20, axis=0), sample_digits, 0)
    assert copies['frechet_distance'] > 3 * real['frechet_distance']
    assert copies['recall'] < 0.01
    assert copies['precision'] == pytest.approx(real['precision'], abs=0.1)
    assert copies['confident_share'] > 0.9  # which sees nothing of it


def test_evaluate(sample_digits):
    scores = evaluation.evaluate(sample_digits[:400], 'mnist', sample_digits[400:], seed=3)
    assert json.loads(json.dumps(scores)) == scores
    assert scores == evaluation.evaluate(sample_digits[:400], 'mnist', sample_digits[400:], seed=3)
    assert (scores['n'], scores['n_reference'], scores['seed']) == (400, 4600, 3)
    assert scores['precision_recall_n'] == 400
    assert scores['nearest_ratio'] == pytest.approx(1, abs=0.05)
    assert scores['diversity'] == pytest.approx(1, abs=0.05)
    assert evaluation.warnings_of(scores) == []


def test_memorised_digits_are_told(sample_digits):
    scores = evaluation.evaluate(noisy(sample_digits[:400], 3), 'mnist', sample_digits)
    assert scores['frechet_distance'] < 1.5  # which sees nothing of it
    (warning,) = evaluation.warnings_of(scores)
    assert 'may repeat training images' in warning
    assert '100% of them nearer' in warning


def test_real_scores(sample_digits):
    """As many digits as asked for, or all; they score what `evaluate` says about such images."""
    scores = evaluation.real_scores('mnist', sample_digits[:600], 300)
    assert (scores['n'], scores['n_reference']) == (300, 600)
    assert evaluation.real_scores('mnist', sample_digits[:600], 9999)['n'] == 600
    assert evaluation.real_scores('mnist', sample_digits[:600], 300, seed=1) != scores
    assert scores['frechet_distance'] < 1.5
    assert evaluation.warnings_of(scores) == []


def test_quick_evaluation(sample_digits):
    """It judges by the digits it was given, so the scale of its numbers is its own."""
    quick = evaluation.QuickEvaluation('mnist', sample_digits[:2000])
    real = quick(sample_digits[2000:2500])
    assert json.loads(json.dumps(real)) == real == quick(sample_digits[2000:2500])
    assert real['n'] == 500
    assert real['diversity'] == pytest.approx(1, abs=0.02)
    assert evaluation.warnings_of(real) == []
    little, much = (quick(noisy(sample_digits[2000:2500], amount)) for amount in (40, 120))
    assert real['frechet_distance'] < little['frechet_distance'] < much['frechet_distance']
    one = quick(np.repeat(sample_digits[3:4], 500, axis=0))
    assert one['diversity'] == 0
    assert one['class_kl'] == pytest.approx(np.log(10))
    (warning,) = evaluation.warnings_of(one)  # the classes that are missing follow from it
    assert 'differ 0.00 times as much' in warning
    _, probabilities = digit_features(sample_digits)
    without = sample_digits[(probabilities.argmax(axis=1) + 1) % 10 > 3]  # nor 9, 0, 1 or 2
    warnings = ' '.join(evaluation.warnings_of(quick(without[:500])))
    assert 'the digit 0 (0.0%), 1 (0.0%), 2 (0.0%), 9 (0.0%)' in warnings
    assert ' nats from' in warnings
    assert 'alike' not in warnings


@pytest.mark.parametrize(
    ('scores', 'has_collapsed'),
    [
        ({'frechet_distance': 9.0, 'diversity': 0.49}, True),
        ({'frechet_distance': 9.0, 'diversity': 0.51}, False),
        ({'frechet_distance': 9.0, 'diversity': None}, False),
        ({'frechet_distance': 71.0, 'diversity': 0.9}, True),
        ({'frechet_distance': 69.0}, False),
        ({'frechet_distance': math.nan}, True),
        ({'frechet_distance': math.inf}, True),
    ],
)
def test_has_collapsed(scores, has_collapsed):
    untrained = {'frechet_distance': 100.0, 'diversity': 0.01}
    assert evaluation.has_collapsed(scores, untrained) is has_collapsed


def test_a_collapse_lasts_until_there_are_pictures_again():
    def since(*distances, start=0):
        steps = range(start, 500 * len(distances) + start, 500)
        history = [
            {'step': step, 'frechet_distance': float(distance)}
            for step, distance in zip(steps, distances, strict=True)
        ]
        return evaluation.collapsed_since(history, CLASSIC)

    assert since() is None
    assert since(100) is None  # untrained
    assert since(100, 99) == 500
    assert since(100, 9, 99, 101) == 1000
    assert since(100, 99, 9) is None
    assert since(100, 99, 9, 99) == 1500
    assert since(100, 99, start=500) is None  # nobody knows what untrained ones scored
    early = [{'step': step, 'frechet_distance': 100.0} for step in (0, 250, 499)]
    assert evaluation.collapsed_since(early, CLASSIC) is None
    assert evaluation.collapsed_since(early, replace(CLASSIC, batch_size=200)) == 250
    assert since(100, math.nan) == 500
    assert since(math.nan, 99) is since(0, 99) is None


def test_when_a_training_is_settled():
    assert [evaluation.is_settled(step, CLASSIC) for step in (499, 500)] == [False, True]
    large = replace(CLASSIC, batch_size=100)
    assert [evaluation.is_settled(step, large) for step in (499, 500)] == [False, True]
    larger = replace(CLASSIC, batch_size=250)
    assert [evaluation.is_settled(step, larger) for step in (199, 200)] == [False, True]
    slow = replace(CLASSIC, rate_warmup=32_064)
    assert [evaluation.is_settled(step, slow) for step in (1001, 1002)] == [False, True]


def test_pictures_without_a_classifier(sample_digits):
    """Coloured digits stand for faces: scores move the right way, and real ones are the floor."""
    coloured = np.repeat(sample_digits[:400], 3, axis=-1)
    reference, generated = coloured[:200], coloured[200:]
    scores = evaluation.evaluate(generated, 'folder', reference)
    assert (
        json.loads(json.dumps(scores))
        == scores
        == evaluation.evaluate(generated, 'folder', reference)
    )
    worse = evaluation.evaluate(noisy(generated, 60), 'folder', reference)
    assert worse['frechet_distance'] > 1.5 * scores['frechet_distance']
    assert worse['kernel_distance'] > scores['kernel_distance']
    assert worse['precision'] < scores['precision']
    repeated = evaluation.evaluate(noisy(reference, 3), 'folder', reference)
    assert 'may repeat' in evaluation.warnings_of(repeated)[0]
    floor = evaluation.real_scores('folder', coloured, 5000)
    assert (floor['n'], floor['n_reference']) == (200, 200)
    assert floor['frechet_distance'] == pytest.approx(scores['frechet_distance'], rel=0.2)


@pytest.mark.parametrize('size', [4, 8, 24])
def test_quick_evaluation_of_few_pictures_of_other_sizes(size):
    """Whatever a training run can draw can be evaluated during it."""
    pixels = np.random.default_rng(0).integers(0, 256, [40, size, size, 1], np.uint8)
    quick = evaluation.QuickEvaluation('mnist', pixels)
    same, other = quick(pixels), quick(np.zeros_like(pixels))
    assert same['frechet_distance'] < 1e-3 < other['frechet_distance']
    assert (same['diversity'], other['diversity']) == (1, 0)
    assert 'class_kl' not in same


@pytest.mark.parametrize('size', [28, 32, 64])
def test_quick_evaluation_of_digits_says_which_they_are(sample_digits, size):
    pixels = sample_digits[:100].repeat(size // 28, axis=1).repeat(size // 28, axis=2)
    pixels = np.pad(pixels, [(0, 0), *[(0, size - pixels.shape[1])] * 2, (0, 0)])
    scores = evaluation.QuickEvaluation('mnist', pixels)(pixels)
    assert scores['frechet_distance'] < 1e-3
    assert min(scores['class_histogram']) > 0.02


@pytest.mark.parametrize(
    ('images', 'name', 'message'),
    [
        (
            np.zeros([19, 28, 28, 1], np.uint8),
            'mnist',
            'generated images is 19; expected at least 20',
        ),
        (np.zeros([200, 28, 28, 1]), 'mnist', 'generated images are float64 .* expected uint8'),
        (np.zeros([200, 28, 28], np.uint8), 'mnist', 'expected uint8'),
        (np.zeros([200, 24, 24, 1], np.uint8), 'mnist', r'knows \[28, 28, 1\], and larger'),
        (np.zeros([200, 28, 28, 3], np.uint8), 'mnist', r'knows \[28, 28, 1\], and larger'),
        (np.zeros([200, 28, 28, 3], np.uint8), 'celeba', 'expected one size'),
        (np.zeros([200, 28, 28, 1], np.uint8), 'cifar', "unknown data set 'cifar'; choose one of"),
    ],
)
def test_pictures_that_cannot_be_evaluated(sample_digits, images, name, message):
    with pytest.raises(ValueError, match=message):
        evaluation.evaluate(images, name, sample_digits)


def test_real_pictures_that_are_all_alike_leave_numbers_out():
    same = np.full([40, 16, 16, 3], 100, np.uint8)
    generated = np.random.default_rng(0).integers(0, 256, [30, 16, 16, 3], np.uint8)
    scores = evaluation.evaluate(generated, 'folder', same)
    assert (scores['diversity'], scores['nearest_ratio']) == (None, None)
    assert evaluation.warnings_of(scores) == []
    assert 'diversity' in evaluation.score_table(scores, {}).replace('\n', ' ')


def test_too_few_real_pictures_to_hold_any_out():
    pictures = np.random.default_rng(0).integers(0, 256, [30, 16, 16, 3], np.uint8)
    assert evaluation.real_scores('folder', pictures, 100) == {}
    assert evaluation.real_scores('folder', np.repeat(pictures, 2, 0), 100)['n'] == 30
