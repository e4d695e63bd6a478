"""How fast exported pages draw, in the system's Chromium without a window, on one core.

(On macOS and Windows, on all: they bind no process to a core.)

Each page is opened `--repeats` times, and each time draws the images of several new seeds. Prints one JSON
line for each page: its megabytes, the seconds from opening it to its first image, and those from the click
on *Draw again* to the last image of the grid; medians and spread.

    python -m facegen export runs/celeba --out faces.html
    python benchmarks/page.py faces.html [--count 25] [--repeats 5]
"""

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from measuring import ROOT, machine, summary

sys.path.insert(0, str(ROOT))

BROWSERS = 'chromium', 'chromium-browser', 'google-chrome'
SEEDS = 4  # that are drawn each time a page is open
FIRST_IMAGE = """() => {
    const image = document.getElementById('image');
    return image && image.getContext('2d').getImageData(0, 0, 1, 1).data[3] === 255;
}"""
ALL_DRAWN = "() => document.getElementById('grid').getAttribute('aria-busy') === 'false'"
DRAW_AGAIN = """() => new Promise(resolve => {
    const grid = document.getElementById('grid'), start = performance.now();
    document.getElementById('again').click();
    new MutationObserver((_, observer) => {
        if (grid.getAttribute('aria-busy') === 'true') return;
        observer.disconnect();
        resolve((performance.now() - start) / 1000);
    }).observe(grid, {attributes: true});
})"""


def times_of(browser, file, count):
    """Return the seconds to the first image of a page, and to draw each of some grids."""
    tab = browser.new_page()
    tab.set_default_timeout(600_000)
    start = time.perf_counter()
    tab.goto(file.absolute().as_uri(), wait_until='commit')
    tab.wait_for_function(FIRST_IMAGE)
    first = time.perf_counter() - start
    tab.wait_for_function(ALL_DRAWN)
    tab.select_option('#count', str(count))
    tab.wait_for_function(ALL_DRAWN)
    grids = [tab.evaluate(DRAW_AGAIN) for _ in range(SEEDS)]
    tab.close()
    return first, grids


def main():
    """Measure each page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('files', nargs='+', type=Path, metavar='FILE.html')
    parser.add_argument('--count', type=int, default=25, help='images of a grid: 1, 4, 9, 16 or 25')
    parser.add_argument('--repeats', type=int, default=5)
    options = parser.parse_args()
    about = machine()
    if hasattr(os, 'sched_setaffinity'):
        os.sched_setaffinity(0, [max(os.sched_getaffinity(0))])
    chromium = next(filter(None, map(shutil.which, BROWSERS)), None)
    if chromium is None:
        raise SystemExit(f'none of {", ".join(BROWSERS)} is in PATH; install one')
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        for file in options.files:
            times = [times_of(browser, file, options.count) for _ in range(options.repeats)]
            firsts, grids = zip(*times, strict=True)
            line = {'benchmark': 'page', 'page': file.stem, 'images': options.count}
            line |= {'megabytes': round(file.stat().st_size / 1e6, 1)}
            line |= summary('seconds_to_first', firsts, 2)
            line |= summary('seconds_of_grid', [seconds for grid in grids for seconds in grid], 2)
            print(json.dumps({**line, 'machine': about}), flush=True)


if __name__ == '__main__':
    main()
