import numpy as np
import pytest
from helpers import peak_memory

from facegen.faces import CHUNK_PIXELS, DIRECTIONS, face_features
from facegen.metrics import frechet_distance, kernel_distance, moments

COUNT = 250
SPACINGS = (-1, 0, 1)  # of the pixels that a light blur mixes


def drawn_faces(count, *, seed, side=28):
    """Ovals with two eyes and a mouth, at varied places and in varied colours, before a background."""
    rng = np.random.default_rng(seed)
    rows, columns = (np.mgrid[:side, :side] + 0.5) / side
    skin, hair = rng.uniform(120, 230, [count, 3]), rng.uniform(10, 110, [count, 3])
    top, left = rng.uniform(-0.06, 0.06, [2, count, 1, 1])

    def spot(row, column, height, width):
        """1 inside, 0 outside, with an edge of about a pixel; [count, side, side, 1]."""
        height, width = (rng.uniform(0.8, 1.2, [count, 1, 1]) * size for size in (height, width))
        distance = np.hypot((rows - row - top) / height, (columns - column - left) / width)
        return (1 / (1 + np.exp(12 * (distance - 1))))[..., None]

    images = np.broadcast_to(hair[:, None, None], (count, side, side, 3))
    for colour, place in (
        (skin, (0.5, 0.5, 0.4, 0.3)),
        (hair, (0.4, 0.38, 0.04, 0.06)),
        (hair, (0.4, 0.62, 0.04, 0.06)),
        (skin * [0.8, 0.4, 0.4], (0.7, 0.5, 0.04, 0.12)),
    ):
        inside = spot(*place)
        images = images * (1 - inside) + colour[:, None, None] * inside
    return np.rint(images + rng.normal(0, 2, images.shape)).clip(0, 255).astype(np.uint8)


def blurred(images):
    """Means of 3x3 pixels."""
    shifts = [np.roll(images, (i, j), axis=(1, 2)) for i in SPACINGS for j in SPACINGS]
    return np.mean(shifts, axis=0).astype(np.uint8)


def frechet(real, other):
    return frechet_distance(*moments(real), *moments(other))


def kernel(real, other):
    return kernel_distance(real, other)[0]


@pytest.fixture(scope='module')
def reference():
    return face_features(drawn_faces(COUNT, seed=0))


@pytest.fixture(scope='module')
def others():
    return drawn_faces(COUNT, seed=1)


@pytest.mark.parametrize('distance', [frechet, kernel])
def test_more_damage_is_farther_from_real_pictures(reference, others, distance):
    noise = np.random.default_rng(0).integers(0, 256, others.shape, np.uint8)
    ladder = [distance(reference, face_features(x)) for x in (others, blurred(others), noise)]
    assert ladder[1] > 2 * abs(ladder[0])
    assert ladder[2] > 2 * ladder[1]


@pytest.mark.parametrize('distance', [frechet, kernel])
def test_a_few_faces_again_and_again_are_farther_than_as_many_different_ones(
    reference, others, distance
):
    repeated = np.resize(others[:8], others.shape)
    different = distance(reference, face_features(others))
    assert distance(reference, face_features(repeated)) > 2 * abs(different)


def test_swapped_halves_of_different_faces_are_seen(reference, others):
    """Each part is real, and only their combination is not: means alone would not tell."""
    mixed = others.copy()
    mixed[:, :, :14] = others[::-1, :, :14]
    assert frechet(reference, face_features(mixed)) > 1.5 * frechet(
        reference, face_features(others)
    )


def test_light_changes_features_less_than_another_face_does(others):
    darker = (others * 0.8).astype(np.uint8)
    features, changed = face_features(others), face_features(darker)
    another = np.linalg.norm(features - features[::-1], axis=1).mean()
    assert 0 < np.linalg.norm(features - changed, axis=1).max() < 0.5 * another


def test_a_moved_picture_is_nearer_than_another_one(others):
    features, moved = face_features(others), face_features(np.roll(others, 1, axis=2))
    another = np.linalg.norm(features - features[::-1], axis=1).mean()
    assert 0 < np.linalg.norm(features - moved, axis=1).mean() < 0.7 * another


def test_a_flat_picture_has_its_colour_and_no_edges():
    image = np.zeros([1, 28, 28, 3], np.uint8)
    image[..., 0] = 255
    cells = face_features(image).reshape(16, 15)
    np.testing.assert_allclose(cells[:, :3], [[0.7, -0.7, -0.7]] * 16, rtol=1e-5)
    assert not cells[:, 3:].any()


def test_an_edge_shows_in_the_direction_in_which_brightness_rises():
    image = np.zeros([1, 28, 28, 1], np.uint8)
    image[:, :, 14:] = 255
    cells = face_features(image).reshape(4, 4, 13)[..., 1:].reshape(4, 4, 3, 4)
    right = [direction == (0, 1) for direction in DIRECTIONS]
    assert (cells.max(axis=(0, 1, 2)) > 0).tolist() == right
    np.testing.assert_allclose(cells, cells[::-1], atol=1e-6)  # the same in every row of cells


@pytest.mark.parametrize('side', [8, 12, 28, 32, 64])
@pytest.mark.parametrize(('channels', 'd'), [(1, 208), (3, 240)])
def test_any_size_has_as_many_features(side, channels, d):
    images = drawn_faces(3, seed=0, side=side)[..., :channels]
    features = face_features(images)
    assert features.shape == (3, d)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()


def test_many_large_images_need_little_memory():
    images = drawn_faces(200, seed=0, side=128)  # 39 MB as they are read, and the features 2 MB
    assert peak_memory(lambda: face_features(images)) < 40e6


def test_a_picture_has_its_features_in_any_company():
    images = drawn_faces(CHUNK_PIXELS // 28**2 + 3, seed=0)
    features = face_features(images)
    np.testing.assert_array_equal(features, face_features(images))
    np.testing.assert_allclose(features[-5:], face_features(images[-5:]), atol=1e-5)


@pytest.mark.parametrize(
    ('images', 'words'),
    [
        (np.zeros([2, 28, 28, 3], np.float32), r'uint8 .*float32 \[2, 28, 28, 3\]'),
        (np.zeros([28, 28, 3], np.uint8), r'\[n, h, w, c\].*\[28, 28, 3\]'),
        (np.zeros([2, 28, 28, 2], np.uint8), r'c of 1 or 3.*\[2, 28, 28, 2\]'),
        (np.zeros([2, 1, 1, 3], np.uint8), 'multiples of 4.*1 x 1'),
        (np.zeros([2, 28, 30, 3], np.uint8), 'multiples of 4.*28 x 30'),
        (np.zeros([0, 28, 28, 3], np.uint8), 'no images'),
    ],
)
def test_other_pictures_are_refused_with_what_was_expected_and_found(images, words):
    with pytest.raises(ValueError, match=words):
        face_features(images)
