"""The committed classifier of digits."""

import numpy as np
import pytest
from PIL import Image

from facegen import digits, metrics
from facegen.images import as_image


def test_classifier_knows_the_sample_digits(sample_digits):
    """Image i shows the digit i % 10."""
    features, probabilities = digits.digit_features(sample_digits)
    assert features.shape == (5000, 64)
    assert features.dtype == probabilities.dtype == np.float32
    assert (probabilities.argmax(axis=1) == np.arange(5000) % 10).mean() > 0.99
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert np.mean(features**2) == pytest.approx(1, abs=0.1)


def test_features_are_deterministic_and_do_not_depend_on_the_batch(sample_digits):
    features, _ = digits.digit_features(sample_digits[:300])
    again, _ = digits.digit_features(sample_digits[:300])
    np.testing.assert_array_equal(features, again)
    alone, _ = digits.digit_features(sample_digits[299:300])
    np.testing.assert_allclose(alone, features[299:], atol=1e-4)


def test_committed_files_are_small_plain_and_belong_together():
    assert digits.WEIGHTS.stat().st_size < 1_000_000
    assert digits.TEST_STATISTICS.stat().st_size < 100_000
    test = digits.test_set_statistics()
    assert test.features.shape == (2000, 64)
    np.testing.assert_array_equal(test.covariance, test.covariance.T)
    # The kept features are a fifth of those after the moments
    distance = metrics.frechet_distance(*metrics.moments(test.features), test.mean, test.covariance)
    assert 0.001 < distance < 0.5


@pytest.mark.parametrize(
    'pictures',
    [
        np.zeros([5, 28, 28, 1], np.float32),
        np.zeros([5, 28, 28], np.uint8),
        np.zeros([5, 28, 28, 3], np.uint8),
        np.zeros([5, 24, 24, 1], np.uint8),
        np.zeros([5, 28, 32, 1], np.uint8),
    ],
)
def test_other_pictures_are_refused(pictures):
    with pytest.raises(
        ValueError, match=r'knows uint8 \[n, 28, 28, 1\], 0 to 255, or larger .*; found'
    ):
        digits.digit_features(pictures)


@pytest.mark.parametrize('side', [32, 64, 128])
def test_enlarged_digits_are_still_the_same_digits(sample_digits, side):
    chosen = sample_digits[:200]
    enlarged = [as_image(digit).resize((side, side), Image.BILINEAR) for digit in chosen]
    enlarged = np.array(enlarged)[..., None]
    (_, before), (_, after) = map(digits.digit_features, (chosen, enlarged))
    assert np.mean(before.argmax(1) == after.argmax(1)) > 0.97


def test_no_pictures():
    with pytest.raises(ValueError, match='expected at least 1'):
        digits.digit_features(np.zeros([0, 28, 28, 1], np.uint8))


def corrupt(path):
    path.write_bytes(digits.WEIGHTS.read_bytes()[:-1000])


def fill_with_zeros(path):
    data = bytearray(digits.WEIGHTS.read_bytes())
    data[1000:2000] = bytes(1000)
    path.write_bytes(data)


def empty(path):
    path.write_bytes(b'')


def lose_one(path):
    with np.load(digits.WEIGHTS) as file:
        np.savez(path, **{name: file[name] for name in file.files[1:]})


def change_shape(path):
    with np.load(digits.WEIGHTS) as file:
        np.savez(path, **{name: file[name][:1] for name in file.files})


def pickle(path):
    np.savez(path, **dict.fromkeys(digits.weight_shapes(), np.array([{}], object)))


def diverge(path):
    with np.load(digits.WEIGHTS) as file:
        np.savez(path, **{name: file[name] * np.float16(np.nan) for name in file.files})


@pytest.mark.parametrize(
    'damage', [corrupt, fill_with_zeros, empty, lose_one, change_shape, pickle, diverge]
)
def test_damaged_weights(tmp_path, damage):
    damage(tmp_path / 'w.npz')
    with pytest.raises(ValueError, match=r'w\.npz is damaged .*; restore it from the repository'):
        digits.digit_features(np.zeros([1, 28, 28, 1], np.uint8), weights=tmp_path / 'w.npz')


def test_missing_weights(tmp_path):
    with pytest.raises(FileNotFoundError, match='is missing; restore it from the repository'):
        digits.digit_features(np.zeros([1, 28, 28, 1], np.uint8), weights=tmp_path / 'w.npz')
