"""Recipes refuse what no training can mean."""

import dataclasses

import pytest

from conftest import ROOT
from facegen.layers import doublings
from facegen.recipes import (
    CLASSIC,
    FACES,
    PUBLISHED,
    RECIPES,
    Recipe,
    published_table,
    recipe_named,
)


def test_classic_is_the_textbook():
    assert CLASSIC == RECIPES['classic'] == Recipe()
    assert dataclasses.asdict(CLASSIC) == {
        'network': 'plain',
        'image_size': 28,
        'kernel_size': 5,
        'd_filters': (64, 128, 256),
        'g_filters': (256, 128),
        'g_last_filters': 0,
        'd_hidden': 0,
        'g_hidden': 0,
        'd_leak': 0.2,
        'g_leak': 0.2,
        'dropout': 0.0,
        'initializer': 'xavier',
        'z_dim': 100,
        'z_categories': 0,
        'loss': 'non-saturating',
        'smoothing': 0.1,
        'gamma': 0.0,
        'updates': 'alternating',
        'precision': 'auto',
        'xla': False,
        'batch_size': 64,
        'learning_rate': 3e-4,
        'rate_warmup': 0,
        'rate_decay': False,
        'beta1': 0.45,
        'ema_half_life': 0,
        'random_flip': False,
        'augmentations': (),
        'mnist_epochs': 2,
        'celeba_epochs': 1,
    }


def test_only_faces_are_mirrored():
    assert [name for name, recipe in RECIPES.items() if recipe.random_flip] == ['faces']


@pytest.mark.parametrize(
    ('setting', 'value'),
    [
        ('network', 'dense'),
        ('augmentations', ('colour', 'blur')),
        ('augmentations', 'colour'),
        ('augmentations', None),
        ('augmentations', 5),
        ('augmentations', (['flip'],)),
        ('augmentations', ('flip', 'flip')),
        ('image_size', 2048),
        ('image_size', 0),
        ('image_size', 30),
        ('kernel_size', 0),
        ('kernel_size', 2.5),
        ('kernel_size', True),
        ('learning_rate', 'high'),
        ('rate_decay', 1),
        ('rate_warmup', -1),
        ('rate_warmup', 0.1),
        ('d_filters', 64),
        ('d_filters', (64.5, 128)),
        ('d_filters', ('a',)),
        ('z_categories', -1),
        ('g_filters', ()),
        ('d_filters', (64, 0)),
        ('d_hidden', -1),
        ('g_last_filters', -1),
        ('gamma', -0.1),
        ('d_leak', -0.1),
        ('g_leak', 1),
        ('dropout', 1),
        ('initializer', 'zeros'),
        ('loss', 'wasserstein'),
        ('batch_size', 0),
        ('learning_rate', 0),
        ('smoothing', 0.5),
        ('smoothing', -0.1),
        ('updates', 'both'),
        ('ema_half_life', -1),
    ],
)
def test_wrong_setting(setting, value):
    with pytest.raises(ValueError, match=f'{setting} is .*expected'):
        Recipe(**{setting: value})


def test_recipes_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        CLASSIC.d_leak = 0


def test_recipe_named():
    assert recipe_named('classic') == recipe_named('mirrored') == CLASSIC  # as it was called before
    with pytest.raises(ValueError, match=r"no recipe 'best'; choose one of \['classic', "):
        recipe_named('best')


@pytest.mark.parametrize('name', RECIPES)
def test_recipes_at_28_pixels_are_those_of_the_table(name):
    assert recipe_named(name) == recipe_named(name, 28) == RECIPES[name]


@pytest.mark.parametrize('size', [32, 64])
def test_the_dcgan_of_the_paper(size):
    """Section 4 of arXiv:1511.06434, and at 64 pixels its figure 1; the paper has no smoothing, the recipe keeps ours."""
    for name, loss in ('dcgan', 'non-saturating'), ('dcgan-least-squares', 'least-squares'):
        assert recipe_named(name, size) == Recipe(
            image_size=size,
            d_filters=(64, 128, 256, 512),
            g_filters=(1024, 512, 256, 128),
            g_leak=0.0,
            initializer='normal',
            loss=loss,
            batch_size=128,
            learning_rate=2e-4,
            beta1=0.5,
        )


@pytest.mark.parametrize(('size', 'blocks'), [(36, 3), (60, 3), (64, 4), (128, 5)])
def test_larger_faces_take_layers_from_four_pixels_on(size, blocks):
    recipe = recipe_named('faces', size)
    assert (recipe.network, len(recipe.g_filters)) == ('plain', blocks)
    (first, filters), *_, (last, features) = doublings(recipe)
    assert (filters, last, features) == (256, size, 256 >> (blocks - 1))
    assert 4 <= first <= 8
    assert recipe.d_filters == recipe.g_filters[::-1]
    assert recipe.gamma == pytest.approx(FACES.gamma * (size / 32) ** 2)


@pytest.mark.parametrize(
    ('size', 'rate', 'batch'), [(32, 8e-4, 64), (64, 4e-4, 32), (128, 2e-4, 32)]
)
def test_larger_faces_learn_at_a_lower_rate_and_in_smaller_batches(size, rate, batch):
    recipe = recipe_named('faces', size)
    assert (recipe.learning_rate, recipe.batch_size) == (rate, batch)


def test_larger_digits_take_a_layer_more_for_each_doubling():
    filters = [recipe_named('digits', size).g_filters for size in (28, 32, 64, 128)]
    assert filters == [(128, 64), (128, 64), (128, 64, 32), (128, 64, 32, 16)]
    assert recipe_named('digits', 64).d_filters == (32, 64, 128)
    assert recipe_named('digits', 64).gamma == pytest.approx(4 * recipe_named('digits', 32).gamma)


def test_a_size_that_is_none():
    with pytest.raises(ValueError, match='image_size is 30; expected a multiple of 4'):
        recipe_named('faces', 30)


def test_residual_networks_need_features_at_full_size_and_have_no_hidden_layers():
    with pytest.raises(ValueError, match='g_last_filters is 0; expected 1 or more'):
        Recipe(network='residual')
    for name in 'd_hidden', 'g_hidden':
        with pytest.raises(ValueError, match=f'{name} is 64; expected 0: residual networks'):
            Recipe(network='residual', g_last_filters=32, **{name: 64})


def test_the_table_of_published_recipes_is_that_of_the_results():
    results = (ROOT / 'benchmarks' / 'RESULTS.md').read_text(encoding='utf-8')
    assert published_table() in results
    for name, (_, stated, _) in PUBLISHED.items():
        assert set(stated.split()) <= {field.name for field in dataclasses.fields(Recipe)}, name
