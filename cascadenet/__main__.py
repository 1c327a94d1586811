"""Run the command line: ``python -m cascadenet``."""

import sys

from cascadenet.cli import main

if __name__ == "__main__":
    sys.exit(main())
