"""`python -m facegen`: the command line."""

import sys

from facegen.cli import main

if __name__ == '__main__':
    sys.exit(main())
