"""Recipes refuse what no training can mean."""

import dataclasses

import pytest

from conftest import ROOT
from facegen.recipes import CLASSIC, PUBLISHED, RECIPES, Recipe, published_table, recipe_named


def test_classic_is_the_textbook():
    assert CLASSIC == RECIPES['classic'] == Recipe()
    assert dataclasses.asdict(CLASSIC) == {
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
        'mnist_epochs': 2,
        'celeba_epochs': 1,
    }


def test_only_faces_are_mirrored():
    assert [name for name, recipe in RECIPES.items() if recipe.random_flip] == ['faces']


@pytest.mark.parametrize(
    ('setting', 'value'),
    [
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
    assert recipe_named('classic') is recipe_named('mirrored') is CLASSIC  # as it was called before
    with pytest.raises(ValueError, match=r"no recipe 'best'; choose one of \['classic', "):
        recipe_named('best')


def test_the_table_of_published_recipes_is_that_of_the_results():
    results = (ROOT / 'benchmarks' / 'RESULTS.md').read_text(encoding='utf-8')
    assert published_table() in results
    for name, (_, stated, _) in PUBLISHED.items():
        assert set(stated.split()) <= {field.name for field in dataclasses.fields(Recipe)}, name
