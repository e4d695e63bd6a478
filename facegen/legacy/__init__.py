"""Old notebooks of the 2017 exercise, unmodified, on today's TensorFlow and Python.

    python -m facegen legacy dlnd_face_generation.ipynb --out again.ipynb     # runs it as a whole
    %load_ext facegen.legacy                                                  # or, as its first cell

Both call `enable`, after which `import tensorflow`, `helper`, `problem_unittests`, `distutils` and
numpy are what such a notebook expects. One topic per file: `tf1` (TensorFlow 1 in graph mode),
`contrib` (tf.contrib.layers), `flags` (tf.app), `tutorials` (the digits of TensorFlow's tutorials),
`data` (where its images are), `checks` (of its five functions), `steps` (the end of a training loop),
`syntax` (habits of older Pythons), `magics` (lines with %), `colab` (google.colab), `book` (the file of
a notebook), `run` (a whole notebook).
"""

import sys
from functools import lru_cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from facegen.files import LESSON

ROOT = Path(__file__).parents[2]  # from where `import facegen` finds this
DATA_DIR = Path('~', '.cache', 'facegen')  # of a live kernel, in whose folder nothing is written


def enable(data_dir=DATA_DIR, data='auto', max_steps=None):
    """Make this process what a notebook of 2017 expects; calling it again changes the arguments.

    Args:
        data_dir: Folder of the data sets, which stands for the one that the notebook names.
        data: 'auto', 'sample' or 'full', as of `download_extract`.
        max_steps: Ends each training loop after this many steps; None: never.

    Raises:
        ValueError: An unknown `data`, or `max_steps` below 1.

    """
    classic, limit = _install()
    limit.bound(max_steps)
    classic.use(data_dir, data)


@lru_cache
def _install():
    """Install everything, once; return (ClassicData, StepLimit), which `enable` sets."""
    from facegen.legacy import checks, colab, magics, syntax, tf1, tutorials
    from facegen.legacy.data import ClassicData, helper_of_2017
    from facegen.legacy.steps import StepLimit

    limit, ours = StepLimit(), original('problem_unittests')
    classic = ClassicData()
    before = sys.modules.get('tensorflow')
    shell = sys.modules.get('IPython') and sys.modules['IPython'].get_ipython()
    syntax.install(shell)
    colab.install()
    sys.modules['helper'] = helper_of_2017(classic, limit)
    tensorflow = tf1.install(limit)
    tutorials.install(classic, tensorflow)
    sys.modules['problem_unittests'] = checks.course_and_ours(ours, tensorflow)
    if shell:
        magics.install(shell)
        names = [name for name, value in shell.user_ns.items() if before and value is before]
        shell.user_ns.update(dict.fromkeys(names, tensorflow))  # of an import before this
    return classic, limit


@lru_cache
def original(name):
    """Return this project's module, even if an old one lies beside the notebook.

    It is loaded once, before `import tensorflow` gives what a notebook expects.
    """
    spec = spec_from_file_location(name, LESSON / f'{name}.py')
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_ipython_extension(ipython):
    """Enable this in a live kernel: `%load_ext facegen.legacy`."""
    enable()
