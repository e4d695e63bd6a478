"""Latents, and the ways between them, against closed forms."""

import numpy as np
import pytest

from facegen.sampling import latents, slerp, walk


def test_ends_are_the_latents():
    z = latents(0, 20, 100)
    a, b = z[:10], z[10:]
    np.testing.assert_array_equal(slerp(a, b, 0), a)
    np.testing.assert_allclose(slerp(a, b, 1), b, rtol=0, atol=1e-7)
    assert slerp(a, b, 0.5).dtype == np.float32


def test_a_quarter_circle():
    a, b = np.array([2.0, 0.0, 0.0]), np.array([0.0, 0.0, 2.0])
    thirds = slerp(a, b, [1 / 3, 2 / 3])
    root = np.sqrt(3)
    np.testing.assert_allclose(thirds, [[root, 0, 1], [1, 0, root]], atol=1e-12)


def test_lengths_change_evenly_and_angles_too():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=[2, 7, 1, 50])
    share = np.linspace(0, 1, 9)
    points = slerp(a, b, share)
    assert points.shape == (7, 9, 50)
    lengths = np.linalg.norm(points, axis=-1)
    np.testing.assert_allclose(
        lengths, (1 - share) * lengths[:, :1] + share * lengths[:, -1:], rtol=1e-12
    )
    units = points / lengths[..., None]
    cosines = (units[:, 1:] * units[:, :-1]).sum(-1)
    np.testing.assert_allclose(cosines, cosines[:, :1].repeat(8, axis=1), rtol=1e-9)


@pytest.mark.parametrize('scale', [1, 1e-9, 1e9])
@pytest.mark.parametrize('noise', [0, 1e-17, 1e-14, 1e-10])
def test_opposite_latents_are_joined_by_a_half_circle(scale, noise):
    a = scale * latents(1, 5, 100).astype(float)
    b = -a * (1 + noise * latents(2, 5, 100))
    middle = slerp(a, b, 0.5)
    np.testing.assert_allclose(np.linalg.norm(middle, axis=1), np.linalg.norm(a, axis=1), rtol=1e-9)
    np.testing.assert_allclose((middle * a).sum(1) / (a * a).sum(1), 0, atol=1e-9)


def test_parallel_and_zero_latents_are_joined_by_a_line():
    a = latents(0, 1, 100)[0]
    zero = np.zeros_like(a)
    np.testing.assert_allclose(slerp(a, a, 0.3), a, rtol=1e-6)
    np.testing.assert_allclose(slerp(a, 3 * a, 0.5), 2 * a, rtol=1e-6)
    np.testing.assert_allclose(slerp(a, zero, 0.25), 0.75 * a, rtol=1e-6)
    np.testing.assert_allclose(slerp(zero, a, 0.25), 0.25 * a, rtol=1e-6)
    np.testing.assert_array_equal(slerp(zero, zero, 0.5), zero)


def test_a_walk_is_an_even_closed_loop_through_its_latents():
    z = latents(4, 5, 64)
    z *= 4 / np.linalg.norm(z, axis=1, keepdims=True)
    steps = walk(z, 8)
    assert steps.shape == (40, 64)
    assert steps.dtype == np.float32
    np.testing.assert_array_equal(steps[::8], z)
    np.testing.assert_allclose(steps[36], slerp(z[4], z[0], 0.5), rtol=1e-6)
    sizes = np.linalg.norm(np.diff(steps, axis=0, append=steps[:1]), axis=1)
    legs = sizes.reshape(5, 8)
    np.testing.assert_allclose(legs, legs.mean(1, keepdims=True).repeat(8, axis=1), rtol=1e-4)
    np.testing.assert_array_equal(walk(z[:1], 3), z[[0, 0, 0]])
