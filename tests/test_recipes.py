"""Recipes refuse what no training can mean."""

import dataclasses

import pytest

from facegen.recipes import CLASSIC, RECIPES, Recipe, recipe_named


def test_classic_is_the_textbook():
    assert CLASSIC == RECIPES['classic'] == Recipe()
    assert dataclasses.asdict(CLASSIC) == {
        'image_size': 28,
        'kernel_size': 5,
        'leak': 0.2,
        'smoothing': 0.1,
        'updates': 'in-turn',
        'ema_half_life': 0,
        'random_flip': False,
    }


def test_only_faces_are_mirrored():
    assert [name for name, recipe in RECIPES.items() if recipe.random_flip] == ['faces']


@pytest.mark.parametrize(
    ('setting', 'value'),
    [
        ('image_size', 0),
        ('image_size', 30),
        ('kernel_size', 0),
        ('leak', -0.1),
        ('leak', 1),
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
        CLASSIC.leak = 0


def test_recipe_named():
    assert recipe_named('classic') is CLASSIC
    with pytest.raises(ValueError, match=r"no recipe 'best'; choose one of \['classic', "):
        recipe_named('best')
