"""Exported generators draw the same images, without this project."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import trainer

from conftest import ROOT
from facegen import export
from facegen.run import RunFolder
from facegen.sampling import generate, latents

COUNT = 25  # images, in README's lines too


@pytest.fixture(scope='module')
def run(tiny_pictures, tmp_path_factory):
    """A run of two grids, so that its best weights may be others than its last."""
    from facegen import notebook

    folder = tmp_path_factory.mktemp('run') / 'run'
    recipe = trainer.tiny_recipe(z_dim=100, z_categories=3)
    return RunFolder(
        trainer.train(
            notebook.definitions(), tiny_pictures, recipe=recipe, epochs=2, run_dir=folder
        )
    )


def readme_lines():
    """Return the code of README that draws with a SavedModel."""
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    (lines,) = re.findall(r'```python\n(.*?)```', text, re.DOTALL)
    return lines


@pytest.mark.parametrize('weights', ['last', 'best'])
def test_four_lines_of_tensorflow_draw_the_same_bytes(run, tmp_path, weights):
    """In a process that knows nothing of this project, as README says."""
    lines = readme_lines()
    assert sum(map(bool, lines.splitlines())) == 4
    (name,) = re.findall(r"load\('([^']+)'\)", lines)
    words = export.save_model(tmp_path / name, run, weights)
    assert words == 'a SavedModel, from latents [n, 100] to uint8 images [n, 8, 8, 3]'
    check = (
        "import numpy, sys\nnumpy.save('drawn.npy', images)\n"
        "assert not {'facegen', 'helper', 'tf_keras'} & set(sys.modules)\n"
    )
    hidden = ('PYTHONPATH', 'TF_USE_LEGACY_KERAS')
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(
        [sys.executable, '-c', lines + check],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    drawn = np.load(tmp_path / 'drawn.npy', allow_pickle=False)
    expected = generate(run, COUNT, 0, weights=weights)
    assert (drawn.dtype, drawn.shape) == (np.uint8, (COUNT, 8, 8, 3))
    assert len(np.unique(expected)) > 50
    np.testing.assert_array_equal(drawn, expected)


def test_onnx_draws_the_same_pictures(run, tmp_path):
    import onnx
    import onnxruntime

    file = tmp_path / 'a.onnx'
    words = export.save_onnx(file, run)
    assert words == 'an ONNX model, from latents [n, 100] to uint8 images [n, 8, 8, 3]'
    onnx.checker.check_model(onnx.load(file), full_check=True)
    session = onnxruntime.InferenceSession(file, providers=['CPUExecutionProvider'])
    ends = [(end.name, end.type, end.shape) for end in session.get_inputs() + session.get_outputs()]
    assert ends == [
        ('latents', 'tensor(float)', ['n', 100]),
        ('pictures', 'tensor(uint8)', ['n', 8, 8, 3]),
    ]
    for count, seed in ((1, 0), (300, 7)):
        (drawn,) = session.run(['pictures'], {'latents': latents(seed, count, 100)})
        difference = np.abs(drawn.astype(int) - generate(run, count, seed))
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.001


def test_an_onnx_model_that_draws_otherwise_or_not_at_all_is_refused(run, tmp_path):
    import onnx

    export.save_onnx(tmp_path / 'a.onnx', run)
    model = onnx.load(tmp_path / 'a.onnx')
    z = latents(0, 4, 100)
    images = generate(run, 4, 0).astype(int)
    export.check_onnx(model, z, images)
    with pytest.raises(ValueError, match='differ from those of the generator by 9 of 255 levels'):
        export.check_onnx(model, z, images + np.eye(8, dtype=int)[..., None] * 9)
    model.graph.node[-1].op_type = 'Lgamma'  # of TensorFlow, which tf2onnx leaves as it is
    with pytest.raises(ValueError, match=r'the generator cannot be ONNX .*Lgamma.*: use layers'):
        export.check_onnx(model, z, images)


def test_without_the_packages_onnx_says_what_to_install(run, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, 'path', [path for path in sys.path if 'site-packages' not in path])
    for name in [name for name in sys.modules if name.split('.')[0] in ('tf2onnx', 'onnxruntime')]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ModuleNotFoundError, match='run `pip install tf2onnx onnxruntime`'):
        export.save_onnx(tmp_path / 'a.onnx', run)
    assert not list(tmp_path.iterdir())
