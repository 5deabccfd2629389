"""Trains and compresses what a YAML file says: ``python train.py --config NAME.yaml [--dotted.key=value …]``."""

import sys

from distill.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
