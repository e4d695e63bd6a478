"""The metrics: closed forms, and that each moves the right way on real digits."""

import math

import numpy as np
import pytest
from helpers import peak_memory

from facegen import metrics


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    import helper

    folder = tmp_path_factory.mktemp('data')  # the faces of sample_data need a network
    return helper.Dataset('mnist', data_path=folder, data='sample').pixels


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def noisy(pictures, amount):
    noise = np.random.default_rng(1).normal(0, amount, pictures.shape)
    return np.clip(pictures + noise, 0, 255).astype(np.uint8)


# Fréchet ------------------------------------------------------------------------------------------


def test_frechet_distance_of_diagonal_gaussians():
    """sum (m - n)^2 + sum (sqrt a - sqrt b)^2."""
    distance = metrics.frechet_distance([0, 1], np.diag([1, 4]), [3, 1], np.diag([4, 9]))
    assert distance == pytest.approx(9 + 1 + 1)


def test_frechet_distance_in_any_basis(rng):
    """Turning both Gaussians changes nothing."""
    turn, _ = np.linalg.qr(rng.normal(size=[5, 5]))
    a, b = np.diag([1, 4, 9, 0, 1e-9]), np.diag([4, 4, 0, 1, 1e3])
    expected = np.sum((np.sqrt(a.diagonal()) - np.sqrt(b.diagonal())) ** 2)
    zero = np.zeros(5)
    turned = metrics.frechet_distance(zero, turn @ a @ turn.T, zero, turn @ b @ turn.T)
    assert turned == pytest.approx(expected, rel=1e-6)


def test_frechet_distance_is_symmetric_and_zero_for_equal_covariances_without_full_rank(rng):
    a, b = (metrics.moments(rng.normal(size=[n, 64]) * scale) for n, scale in ((20, 1), (30, 2)))
    assert metrics.frechet_distance(*a, *b) == pytest.approx(metrics.frechet_distance(*b, *a))
    assert 0 <= metrics.frechet_distance(*a, *a) < 1e-5


def test_moments():
    mean, covariance = metrics.moments([[0, 0], [2, 4]])
    assert mean.tolist() == [1, 2]
    assert covariance.tolist() == [[2, 4], [4, 8]]


# Kernel -------------------------------------------------------------------------------------------


def test_kernel_distance_of_two_points():
    """k(0, 0) = 1, k(1, 1) = 8, k(0, 1) = 1: three equal rows each leave no doubt."""
    assert metrics.kernel_distance(np.zeros([3, 1]), np.ones([3, 1])) == (1 + 8 - 2, 0)


def test_kernel_distance_by_hand():
    """x = 0, 0, 1: pairs 1, 1, 1; y = 1, 1, 1: 8; across 1, 1, 8."""
    value, error = metrics.kernel_distance([[0], [0], [1]], np.ones([3, 1]))
    assert value == pytest.approx(1 + 8 - 2 * 10 / 3)
    # Without a 0: pair 1, across (1 + 8) / 2; without the 1: pair 1, across 1; y changes nothing
    left_out = np.array([1 + 8 - 9, 1 + 8 - 9, 1 + 8 - 2])
    assert error == pytest.approx(math.sqrt(2 * left_out.var()))


def test_kernel_distance_is_unbiased_and_its_standard_error_honest(rng):
    """Over 200 samples, the mean is the distance of the distributions, the spread the error."""

    def kernel_mean(a, b):
        """E (xy + 1)^3 = E x^3 E y^3 + 3 E x^2 E y^2 + 3 E x E y + 1."""
        return a[2] * b[2] + 3 * a[1] * b[1] + 3 * a[0] * b[0] + 1

    x, y = (0, 1, 0), (0.5, 1.25, 1.625)  # first three moments of N(0, 1), N(0.5, 1)
    expected = kernel_mean(x, x) + kernel_mean(y, y) - 2 * kernel_mean(x, y)
    runs = [
        metrics.kernel_distance(rng.normal(size=[100, 1]), rng.normal(0.5, 1, [150, 1]))
        for _ in range(200)
    ]
    values, errors = np.transpose(runs)
    assert values.mean() == pytest.approx(expected, abs=4 * values.std() / math.sqrt(200))
    assert 0.8 < errors.mean() / values.std() < 1.25


def test_kernel_distance_of_one_distribution_is_near_zero_on_both_sides(rng):
    values = []
    for _ in range(50):
        value, error = metrics.kernel_distance(*rng.normal(size=[2, 60, 8]))
        assert abs(value) < 6 * error
        values.append(value)
    assert min(values) < 0 < max(values)


# Precision and recall -----------------------------------------------------------------------------


def test_precision_recall_of_equal_disjoint_and_part_sets(rng):
    points = rng.normal(size=[100, 4]) + 1000
    assert metrics.precision_recall(points, points) == (1, 1)
    assert metrics.precision_recall(points, points + 500) == (0, 0)
    two_modes = np.concatenate([points, points + 500])
    assert metrics.precision_recall(two_modes, points) == (1, 0.5)
    assert metrics.precision_recall(points, two_modes) == (0.5, 1)


def test_precision_recall_by_hand():
    """With k = 1, every centre of 0, 1, 3 reaches as far as its nearest other: 1, 1, 2."""
    real = np.array([[0.0], [1], [3]])
    fake = np.array([[-0.9], [4.9], [5.5], [-1.5]])  # reach 0.6
    assert metrics.precision_recall(real, fake, k=1) == (0.5, 0)
    fake[2] = 3
    assert metrics.precision_recall(real, fake, k=1) == (0.75, pytest.approx(1 / 3))


def test_blocks_change_nothing(rng, monkeypatch):
    real, fake = rng.normal(size=[2, 50, 4])

    def everything():
        return (
            metrics.precision_recall(real, fake + 0.5),
            metrics.kernel_distance(real, fake),
            metrics.mean_pairwise_distance(real),
            metrics.nearest(real, fake)[1].tolist(),
            metrics.nearest(real, real, skip=np.arange(50))[1].tolist(),
        )

    whole = everything()
    monkeypatch.setattr(metrics, 'CHUNK', 300)
    for a, b in zip(everything(), whole, strict=True):
        assert a == pytest.approx(b)


# Classes ------------------------------------------------------------------------------------------


def test_class_report():
    one = metrics.class_report(np.eye(10)[[3] * 7])
    assert one['class_kl'] == pytest.approx(math.log(10))
    assert one['class_histogram'] == [0, 0, 0, 1, 0, 0, 0, 0, 0, 0]
    all_of_them = metrics.class_report(np.eye(10)[np.arange(30) % 10])
    assert all_of_them['class_kl'] == pytest.approx(0, abs=1e-12)
    assert (all_of_them['mean_confidence'], all_of_them['confident_share']) == (1, 1)
    unsure = metrics.class_report([[0.92, 0.08], [0.3, 0.7]])
    assert unsure['mean_confidence'] == pytest.approx(0.81)
    assert unsure['confident_share'] == 0.5
    half = metrics.class_report(np.eye(4)[[0, 1]])
    assert half['class_kl'] == pytest.approx(math.log(2))


# Nearest images ---------------------------------------------------------------------------------


def test_nearest():
    pictures = np.zeros([3, 2, 2, 1], np.uint8)
    pictures[1] = 200
    pictures[2, 0, 0] = 30
    distances, indices = metrics.nearest(pictures + np.uint8(1), pictures)
    assert distances.tolist() == [2, 2, 2]
    assert indices.tolist() == [0, 1, 2]
    distances, indices = metrics.nearest(pictures, pictures, skip=np.arange(3))
    assert indices.tolist() == [2, 2, 0]
    assert distances[[0, 2]].tolist() == [30, 30]


def test_nearest_agrees_with_all_distances(digits):
    samples, pictures = digits[:50], digits[50:500]
    flat = samples.reshape(50, -1).astype(float), pictures.reshape(450, -1).astype(float)
    every = np.linalg.norm(flat[0][:, None] - flat[1], axis=2)
    distances, indices = metrics.nearest(samples, pictures)
    assert indices.tolist() == every.argmin(axis=1).tolist()
    np.testing.assert_allclose(distances, every.min(axis=1))


def test_memorising_tells_copies_from_new_pictures(digits):
    training, new, held_out = digits[:3000], digits[3000:4000], digits[4000:]
    copies = noisy(training[:1000], 4)
    for real in (held_out, None):  # held out, or each training image against the others
        generating = metrics.memorising(new, training, real)
        repeating = metrics.memorising(copies, training, real)
        mixed = metrics.memorising(np.concatenate([new, copies]), training, real)
        assert generating['nearest_ratio'] == pytest.approx(1, abs=0.05)
        assert generating['nearer_than_real'] == pytest.approx(0.01, abs=0.01)
        assert repeating['nearest_ratio'] < 0.15
        assert repeating['nearer_than_real'] == 1
        assert mixed['nearer_than_real'] == pytest.approx(0.5, abs=0.01)


def test_mean_pairwise_distance():
    """Of 0, 3, 4 on a line: (3 + 4 + 1) / 3."""
    assert metrics.mean_pairwise_distance(np.array([[0], [3], [4]])) == pytest.approx(8 / 3)
    assert metrics.mean_pairwise_distance(np.full([5, 2, 2, 3], 77, np.uint8)) == 0


def test_distances_between_large_images_need_little_memory(rng, monkeypatch):
    images = rng.integers(0, 256, [200, 64, 64, 3], np.uint8)
    monkeypatch.setattr(metrics, 'CHUNK', 1 << 18)  # 2 MB in a block; all images would need 20
    assert peak_memory(lambda: metrics.mean_pairwise_distance(images)) < 10e6


# Errors -------------------------------------------------------------------------------------------

ROWS, PICTURES = np.ones([9, 4]), np.ones([9, 28, 28, 1])
NAN = np.full([9, 4], np.nan)


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: metrics.moments(ROWS[:1]), 'there are 1 features; expected at least 2'),
        (lambda: metrics.moments(NAN), 'NaN'),
        (lambda: metrics.moments(PICTURES), r'expected \[n, d\]'),
        (lambda: metrics.frechet_distance([0], [[1]], [0, 0], np.eye(2)), 'expected two means'),
        (lambda: metrics.frechet_distance([np.nan], [[1]], [0], [[1]]), 'NaN'),
        (lambda: metrics.kernel_distance(ROWS[:2], ROWS), 'there are 2 real features.* at least 3'),
        (lambda: metrics.kernel_distance(ROWS, ROWS[:, :3]), 'have 4 numbers each, fake ones 3'),
        (lambda: metrics.kernel_distance(ROWS, NAN), 'fake features hold NaN'),
        (lambda: metrics.precision_recall(ROWS, ROWS[:3]), '3 fake features; expected at least 4'),
        (lambda: metrics.class_report(ROWS), 'need a softmax'),
        (lambda: metrics.class_report(-ROWS), 'need a softmax'),
        (lambda: metrics.class_report(ROWS[:0]), 'at least 1'),
        (lambda: metrics.nearest(ROWS, ROWS[:, :3]), 'has 4 numbers, an image 3'),
        (lambda: metrics.nearest(ROWS, ROWS[:0]), 'expected at least 1'),
        (lambda: metrics.nearest(NAN, ROWS), 'samples hold NaN'),
        (lambda: metrics.nearest(ROWS, NAN), 'images hold NaN'),
        (lambda: metrics.mean_pairwise_distance(ROWS[:1]), 'at least 2'),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_memorising_sees_mirrored_pictures_where_training_mirrors_them():
    rng = np.random.default_rng(0)
    training = rng.integers(0, 256, [60, 6, 6, 1], np.uint8)
    copies = training[:30, :, ::-1]
    assert metrics.memorising(copies, training, mirrored=True)['nearest_ratio'] == 0
    assert metrics.memorising(copies, training)['nearest_ratio'] > 0.8
    fresh = rng.integers(0, 256, [30, 6, 6, 1], np.uint8)
    assert metrics.memorising(fresh, training, mirrored=True)['nearest_ratio'] > 0.8
    distances, indices = metrics.nearest_or_mirrored(copies[:2], training)
    assert (distances.tolist(), indices.tolist()) == ([0, 0], [60, 61])


def test_memorising_says_nothing_where_most_real_pictures_are_copies():
    assert set(metrics.memorising(ROWS, ROWS).values()) == {None}
