"""The notebook as a library: its definitions for scripts, its execution for tests."""

import ast
import json
import sys
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from facegen.files import LESSON

NOTEBOOK = LESSON / 'face_generation.ipynb'
DEFINITIONS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)


def code_cells(path):
    """Return [(cell number from 1, source)] of the notebook's code cells, magics commented out.

    Raises FileNotFoundError if there is no notebook, ValueError if the file is not one.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'{path} is no notebook; expected face_generation.ipynb')
    try:
        return [
            (number, ''.join(map(without_magic, ''.join(cell['source']).splitlines(keepends=True))))
            for number, cell in enumerate(json.loads(path.read_text(encoding='utf-8'))['cells'], 1)
            if cell['cell_type'] == 'code'
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f'{path} is not a notebook of format 4 ({error!r})') from error


def without_magic(line):
    """Return the line, as a comment if it is one of IPython's magics or shell commands."""
    return '#' + line if line.startswith(('%', '!')) else line


def definitions(path=NOTEBOOK):
    """Return the notebook's imports, functions and classes as a module; run nothing else.

    TF1 mode is set. The functions find each other through the module, so that replacing
    `module.discriminator` changes what `module.model_loss` calls.
    """
    from facegen import session

    session.use_tf1()
    path = Path(path)
    module = ModuleType(path.stem)
    with own_modules_first():
        for number, source in code_cells(path):
            where = f'{path.name}:cell {number}'
            tree = ast.parse(source, where)
            tree.body = [node for node in tree.body if isinstance(node, DEFINITIONS)]
            exec(compile(tree, where, 'exec'), module.__dict__)
    return module


@contextmanager
def own_modules_first():
    """Import this project's `helper` and `problem_unittests`, even where old ones lie beside a script."""
    own = str(LESSON)
    sys.path.insert(0, own)
    try:
        yield
    finally:
        sys.path.remove(own)


def parameters(path=NOTEBOOK):
    """Return {name: value} of the notebook's parameter cell, which holds literals only.

    Raises ValueError if there is no such cell, or if a line of it is anything else.
    """
    sources = (source for _, source in code_cells(path) if source.startswith('# parameters'))
    source = next(sources, None)
    if source is None:
        raise ValueError(f"{path} has no parameter cell; its first line must be '# parameters'")
    values = {}
    for node in ast.parse(source, f'{Path(path).name}:parameters').body:
        try:
            (target,) = node.targets
            values[target.id] = ast.literal_eval(node.value)
        except (AttributeError, ValueError) as error:
            raise ValueError(
                f'{path}: line {node.lineno} of the parameter cell is not `name = value` '
                f'with a literal value: {ast.unparse(node)}'
            ) from error
    return values


def execute(path=NOTEBOOK, out=None, **overrides):
    """Run the notebook in a kernel of its own, in its own folder; save it to `out` (default: itself).

    `overrides` are injected after the parameter cell. Execution times and the Python version are
    not recorded, so that a second run differs only where results do. A failing cell raises
    nbclient's CellExecutionError, after what ran was saved.

    Raises ValueError for an override that is no parameter.
    """
    import nbformat
    from nbclient import NotebookClient

    known = parameters(path)
    if unknown := sorted(set(overrides) - set(known)):
        raise ValueError(f'no parameter {unknown}; the notebook has {sorted(known)}')
    book = nbformat.read(path, as_version=4)
    if overrides:
        at = next(i for i, cell in enumerate(book.cells) if cell.source.startswith('# parameters'))
        injected = '\n'.join(f'{name} = {value!r}' for name, value in overrides.items())
        book.cells.insert(at + 1, nbformat.v4.new_code_cell(injected, id='injected-parameters'))
    client = NotebookClient(
        book, record_timing=False, resources={'metadata': {'path': str(Path(path).parent)}}
    )
    try:
        client.execute()
    finally:
        book.metadata.pop('language_info', None)
        for cell in book.cells:
            cell.metadata.pop('execution', None)  # times that `jupyter execute` has recorded
        nbformat.write(book, path if out is None else out)
    return book
