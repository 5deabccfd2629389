"""Run the experiments of a YAML file: ``python train.py --config NAME.yaml [--dotted.key=value …]``."""

import sys

from distill.command.main import start

if __name__ == "__main__":
    start(["train", *sys.argv[1:]])
