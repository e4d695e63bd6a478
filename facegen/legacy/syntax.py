"""What Python, its library and numpy had in 2017 and no longer have."""

import ast
import builtins
import collections
import collections.abc
import functools
import importlib
import re
import sys
import time
import warnings
from types import ModuleType

import numpy as np

NUMPY = {
    'product': np.prod,
    'cumproduct': np.cumprod,
    'alltrue': np.all,
    'sometrue': np.any,
    'asscalar': np.ndarray.item,
    'float': float,
    'int': int,
    'bool': bool,
    'object': object,
    'str': str,
    'float_': np.float64,
    'Inf': np.inf,
    'NaN': np.nan,
}
BUILTINS = {
    'xrange': range,
    'unicode': str,
    'raw_input': input,
    'unichr': chr,
    'reduce': functools.reduce,
}
# (pattern in a line, replacement), tried on cells that do not parse
PYTHON_2 = (
    (r'^(\s*)print\s+>>\s*([^,]+),\s*(.*?)\s*$', r'\1print(\3, file=\2)'),
    (r'^(\s*|.*:\s+)print\s+(?![=(.])(.+?),\s*$', r'\1print(\2, end=" ")'),
    (r'^(\s*|.*:\s+)print\s+(?![=.])(.+?)\s*$', r'\1print(\2)'),
    (r'^(\s*)print\s*$', r'\1print()'),
    (r'^(\s*except\s+[^:]+?)\s*,\s*(\w+)\s*:', r'\1 as \2:'),
    (r'^(\s*raise\s+\w+)\s*,\s*(.+)$', r'\1(\2)'),
)
# The same, tried only where those are not enough, since they change what stands in quotes too
PYTHON_2_ANYWHERE = (
    (r'<>', '!='),
    (r'(?<![\w.])0([0-7]+)(?![\w.])', r'0o\1'),
    (r'\basync\b', 'async_'),  # a keyword since Python 3.7
)


def install(shell):
    """Bring back names that are gone, and let IPython's `shell`, if any, read cells of older Pythons."""
    add_missing(np, NUMPY)
    add_missing(builtins, BUILTINS)
    add_missing(time, {'clock': time.perf_counter})
    names = [name for name in collections.abc.__all__ if not hasattr(collections, name)]
    add_missing(collections, {name: getattr(collections.abc, name) for name in names})
    install_distutils()
    if shell and translate not in shell.input_transformers_post:
        shell.input_transformers_post.append(translate)


def add_missing(module, names):
    """Set the `names`, {name: value}, that `module` lacks; what it has stays."""
    for name, value in names.items():
        if name not in vars(module):
            setattr(module, name, value)


def install_distutils():
    """Provide `distutils.version`, without a warning where Python still has it."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', DeprecationWarning)
        try:
            package = importlib.import_module('distutils')
        except ImportError:
            package = sys.modules['distutils'] = ModuleType('distutils')
            package.__path__ = []
    package.version = sys.modules['distutils.version'] = ModuleType('distutils.version')
    package.version.LooseVersion = package.version.StrictVersion = LooseVersion


@functools.total_ordering
class LooseVersion:
    """A version that compares number by number, as `distutils.version` had it."""

    def __init__(self, vstring):
        """Take '1.2.0-rc1' apart into 1, 2, 0, 'rc', 1."""
        self.vstring = vstring
        parts = re.findall(r'\d+|[a-z]+', vstring)
        self.version = [int(part) if part.isdigit() else part for part in parts]

    def __str__(self):
        """Return the text that it was made of."""
        return self.vstring

    def __eq__(self, other):
        """Compare with another version or its text."""
        return self.version == _loose(other).version

    def __lt__(self, other):
        """Compare with another version or its text."""
        return self.version < _loose(other).version

    __hash__ = None


def _loose(version):
    return version if isinstance(version, LooseVersion) else LooseVersion(str(version))


def translate(lines):
    """Return the lines of a cell, in Python 3 where only that makes them parse."""
    for patterns in (), PYTHON_2, PYTHON_2 + PYTHON_2_ANYWHERE:
        translated = [translate_line(line, patterns) for line in lines]
        if parses(translated):
            return translated
    return lines


def parses(lines):
    """Tell whether these lines are Python of this version."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # they come when the cell runs
        try:
            ast.parse(''.join(lines))
        except (SyntaxError, ValueError):
            return False
    return True


def translate_line(line, patterns):
    """Return a line of code with each (pattern, replacement) of regular expressions applied."""
    end = '\n' if line.endswith('\n') else ''
    line = line.removesuffix('\n')
    for pattern, replacement in patterns:
        line = re.sub(pattern, replacement, line)
    return line + end
