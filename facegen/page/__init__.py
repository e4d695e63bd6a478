"""A page to share: one file that draws, in anybody's browser, what a trained generator draws.

translate.py makes layers of the generator's graph, pack.py few bytes of these, and words.py what the page
says. page.html is put together with page.css, latents.js (NumPy's random numbers), engine.js (the layers,
in a worker) and page.js (what one sees and touches).
"""

import base64
import hashlib
import re
from pathlib import Path

from facegen.files import to_json
from facegen.page.pack import packed
from facegen.page.translate import Translation
from facegen.page.words import words_of
from facegen.sampling import restored

FILES = Path(__file__).parent


def save_page(file, run, weights='last'):
    """Save a page with the generator of a run in a file; return a description of it.

    Its images are those of `generate` to within one of 255 levels. Raises ValueError for a generator that
    cannot be translated, and like `sampling.restored`.
    """
    with restored(run, weights) as generator:
        content = packed(Translation(generator))
        words = words_of(run, generator, weights)
    text = assembled(words, content)
    file.write_text(text, encoding='utf-8')
    height, width, _ = words['shape']
    return f'a page of {len(text) / 1e6:.1f} MB that draws {height}x{width} images'


def assembled(words, content):
    """Return the HTML of a page, of what it says and the bytes of its generator."""
    engine, style, *scripts = map(read, ('engine.js', 'page.css', 'latents.js', 'page.js'))
    script = '\n'.join(scripts)
    policy = (
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; worker-src blob:; "
        f"script-src '{source_hash(script)}'; style-src '{source_hash(style)}'"
    )
    parts = {
        'policy': policy,
        'style': style,
        'words': to_json(words).replace('<', '\\u003c'),  # so that no text ends the element
        'engine': engine,
        'script': script,
        'generator': base64.b85encode(content)
        .decode()
        .replace('<', ','),  # a 16th shorter than base 64
    }
    return re.sub(r'{{(\w+)}}', lambda match: parts[match[1]], read('page.html'))


def read(name):
    """Return the text of a part of the page."""
    return (FILES / name).read_text(encoding='utf-8')


def source_hash(text):
    """Return how a content security policy names a text that it allows."""
    return f'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'
