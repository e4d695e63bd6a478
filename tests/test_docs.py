"""What README promises: its commands, its images, its files."""

import ast
import json
import re

from packaging.requirements import Requirement

from conftest import ROOT

RUN = (
    'python3 -m venv .venv && .venv/bin/pip install -r requirements.txt && '
    '.venv/bin/jupyter execute --inplace face_generation.ipynb'
)
TEST = (
    'python3 -m venv .venv && .venv/bin/pip install -r requirements.txt -r requirements-dev.txt && '
    '.venv/bin/python -m pytest'
)
README = (ROOT / 'README.md').read_text(encoding='utf-8')


def test_readme_begins_with_a_picture_and_the_two_commands():
    assert README.index('![') < README.index('```')
    assert re.findall(r'```\n(.*?)\n```', README, re.DOTALL)[:2] == [RUN, TEST]


def test_pictures_that_the_texts_show_exist_and_are_small():
    cells = json.loads((ROOT / 'face_generation.ipynb').read_text(encoding='utf-8'))['cells']
    texts = [
        README,
        *(''.join(cell['source']) for cell in cells if cell['cell_type'] == 'markdown'),
    ]
    shown = {name for text in texts for name in re.findall(r'!\[[^\]]+\]\((images/[^)]+)\)', text)}
    assert shown == {f'images/{file.name}' for file in (ROOT / 'images').iterdir()}
    for name in shown:
        limit = 1_000_000 if name.endswith('.gif') else 150_000
        assert 0 < (ROOT / name).stat().st_size <= limit, name


def test_files_that_readme_links_to_exist():
    links = re.findall(r'\]\((?!https?:)([^)#]+)\)', README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_direct_dependency_is_pinned():
    for name in 'requirements.txt', 'requirements-dev.txt':
        lines = (ROOT / name).read_text(encoding='utf-8').splitlines()
        wanted = [line for line in lines if line and not line.startswith('#')]
        assert wanted
        assert all(
            re.match(r'[\w-]+==[\d.]+(; python_version [<>]=? "3\.\d+")?$', w) for w in wanted
        )


def test_the_oldest_that_is_tested_is_the_oldest_that_is_allowed():
    text = (ROOT / 'pyproject.toml').read_text(encoding='utf-8')
    lists = (
        re.search(r'\ndependencies = (\[.*?\n\])', text, re.DOTALL)[1],
        re.search(r'\nnotebook = (.*)', text)[1],
    )
    asked = {r.name: r for list in lists for r in map(Requirement, ast.literal_eval(list))}
    lines = (ROOT / 'requirements-oldest.txt').read_text(encoding='utf-8').splitlines()
    pins = {r.name: r for r in (Requirement(line) for line in lines if line[0] != '#')}
    assert asked.keys() - pins.keys() == {'jupyterlab'}  # which the tests start in a browser only
    for name in asked.keys() & pins.keys():
        (pin,) = pins[name].specifier
        (least,) = (part.version for part in asked[name].specifier if part.operator == '>=')
        assert asked[name].specifier.contains(pin.version), name
        assert f'{pin.version}.'.startswith(f'{least}.'), name


def test_what_the_extras_ask_for_is_tested():
    text = (ROOT / 'pyproject.toml').read_text(encoding='utf-8')
    section = re.search(r'\[project.optional-dependencies\]\n(.*?)\n\n', text, re.DOTALL)[1]
    extras = {
        name: [Requirement(line) for line in ast.literal_eval(wanted)]
        for name, wanted in re.findall(r'(\w+) = (.*)', section)
    }
    assert set(re.findall(r'pip install "\.\[(\w+)\]"', README)) == set(extras)
    files = [ROOT / name for name in ('requirements.txt', 'requirements-dev.txt')]
    lines = [line for file in files for line in file.read_text(encoding='utf-8').splitlines()]
    pins = [Requirement(line) for line in lines if line and not line.startswith('#')]
    for wanted in (requirement for extra in extras.values() for requirement in extra):
        tested = [pin for pin in pins if pin.name == wanted.name]
        assert tested, wanted
        for pin in tested:
            (version,) = pin.specifier
            assert wanted.specifier.contains(version.version), wanted
