"""The file of an old notebook: what is wrong with it, what it needs, and how it is saved."""

import ast
import importlib.util
import json
import re
import sys
import warnings
from pathlib import Path

from facegen.files import complete
from facegen.legacy import syntax

TORCH = re.compile(r'^\s*(import|from)\s+torch\b', re.MULTILINE)
TENSORFLOW = re.compile(r'^\s*(import|from)\s+tensorflow\b', re.MULTILINE)
TRAINS = re.compile(r'^(?!\s*(def|#)).*(?<![\w.])\w*train\w*\(', re.MULTILINE)
MERGE_MARKER = re.compile(r'^(<{7}|={7}|>{7})( .*)?$', re.MULTILINE)
NEWEST_FORMAT, NEWEST_MINOR = 4, 5
OURS = {'tensorflow', 'helper', 'problem_unittests', 'distutils', 'google', 'facegen'}
# What pip calls a module that is called otherwise
PACKAGES = {
    'Crypto': 'pycryptodome',
    'PIL': 'pillow',
    'bs4': 'beautifulsoup4',
    'cv2': 'opencv-python-headless',
    'dateutil': 'python-dateutil',
    'skimage': 'scikit-image',
    'sklearn': 'scikit-learn',
    'yaml': 'pyyaml',
}
# Of Python 2, for which pip has nothing: they fail where they are imported
OF_PYTHON_2 = {
    'ConfigParser', 'HTMLParser', 'Queue', 'StringIO', 'cPickle', 'cStringIO', 'httplib', 'urllib2',
    'urlparse',
}  # fmt: skip


def read(path):
    """Return the notebook, format 4, without outputs.

    Raises ValueError, with the reason, for anything but a notebook of TensorFlow 1 with a training cell.
    """
    import nbformat

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'there is no notebook {path}')
    require_notebook(path, text := text_of(path))
    try:
        book = todays(nbformat.reads(text, as_version=NEWEST_FORMAT, capture_validation_error={}))
    except Exception as error:  # of whatever kind, nbformat says what is missing
        raise ValueError(f'{path} is not a notebook: it lacks parts of one ({error!r})') from error
    source = '\n'.join(cell.source for cell in book.cells if cell.cell_type == 'code')
    if TORCH.search(source):
        raise ValueError(f'{path} is a PyTorch notebook; expected one of TensorFlow 1')
    if not TENSORFLOW.search(source):
        raise ValueError(f'{path} does not import tensorflow; expected a notebook of TensorFlow 1')
    if not TRAINS.search(source):
        raise ValueError(f'{path} has no training cell; expected one that calls train(...)')
    return book


def text_of(path):
    """Return the text of a file in UTF-8 or UTF-16, with a byte-order mark or without."""
    data = path.read_bytes()
    utf16 = data.startswith((b'\xff\xfe', b'\xfe\xff'))
    try:
        return data.decode('utf-16' if utf16 else 'utf-8-sig')
    except UnicodeDecodeError as error:
        raise ValueError(
            f'{path} is not a notebook: its byte {error.start:,} is no UTF-8; save it as UTF-8'
        ) from error


def require_notebook(path, text):
    """Raise ValueError, with what to do, unless the text is JSON of a notebook in a known format."""
    if not text.strip():
        raise ValueError(f'{path} is not a notebook: it is empty; get it again')
    try:
        book = json.loads(text)
    except ValueError as error:
        marker = MERGE_MARKER.search(text)
        if marker:
            line = text.count('\n', 0, marker.start()) + 1
            raise ValueError(
                f'{path} is not a notebook: line {line} is {marker[0]!r}, which version control leaves '
                'where two versions differ; keep one of them'
            ) from error
        raise ValueError(
            f'{path} is not a notebook: no valid JSON ({error}); get it again'
        ) from error
    version = book.get('nbformat') if isinstance(book, dict) else None
    if not isinstance(version, int):
        raise ValueError(f'{path} is not a notebook: it is JSON without the number of its format')
    if version > NEWEST_FORMAT:
        raise ValueError(
            f'{path} has format {version} of notebooks, of the future; save it in format '
            f'{NEWEST_FORMAT} (nbconvert --to notebook --nbformat {NEWEST_FORMAT})'
        )


def todays(book):
    """Return a notebook that is valid by today's schema, without outputs and what editors have added."""
    import nbformat

    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # about what is changed
        _, book = nbformat.validator.normalize(
            book, NEWEST_FORMAT, NEWEST_MINOR, relax_add_props=True, strip_invalid_metadata=True
        )
    cells = []
    for number, cell in enumerate(book.cells, 1):
        make = getattr(nbformat.v4, f'new_{cell.cell_type}_cell')
        kept = {'attachments': cell.attachments} if cell.get('attachments') else {}
        cells.append(make(cell.source, metadata=cell.metadata, id=f'cell-{number}', **kept))
    return nbformat.v4.new_notebook(metadata=book.metadata, cells=cells)


def save(book, out):
    """Write the notebook, valid by its schema, complete or not at all."""
    import nbformat

    with complete(out) as partial:
        nbformat.write(book, partial)


def require_packages(book, folder):
    """Raise ModuleNotFoundError, with a command, if code of the notebook imports what is not installed."""
    names = {
        name for cell in book.cells if cell.cell_type == 'code' for name in imports_of(cell.source)
    }
    known = OURS | OF_PYTHON_2 | {path.stem for path in Path(folder).iterdir()}
    missing = sorted(name for name in names - known if importlib.util.find_spec(name) is None)
    if missing:
        packages = ' '.join(PACKAGES.get(name, name) for name in missing)
        raise ModuleNotFoundError(
            f'the notebook imports {", ".join(missing)}, which is not installed: run '
            f'{sys.executable} -m pip install {packages}'
        )


def imports_of(source):
    """Return the modules that a cell imports, but for those that it tries to."""
    lines = [re.sub(r'^(\s*)[%!].*', r'\1pass', line) for line in source.splitlines(keepends=True)]
    if source.startswith('%%') and not source.startswith('%%time'):
        return set()
    try:
        tree = ast.parse(''.join(syntax.translate(lines)))
    except (SyntaxError, ValueError):
        return set()
    names, rest = set(), [tree]
    while rest:
        node = rest.pop()
        if isinstance(node, ast.Import):
            names.update(alias.name.partition('.')[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module.partition('.')[0])
        elif not isinstance(node, ast.Try):
            rest.extend(ast.iter_child_nodes(node))
    return names
