"""Write a folder to deploy from a finished run: student, tokenizer, model card, and the ONNX file."""

from __future__ import annotations

import argparse
from pathlib import Path

from distill.command.options import refuse_rest
from distill.training.callbacks.display.quiet import silence_libraries


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("run", help="the folder of a run, or of its student alone")
    parser.add_argument("folder", help="the folder to write: for transformers, ONNX Runtime and transformers.js")
    parser.add_argument("--onnx", action="store_true", help="write an ONNX file if the run has none, in float32")


def execute(options: argparse.Namespace, rest: list[str]) -> int:
    """Write the folder and print its files, and return the exit code.

    Raises:
        ConfigError: if the run is not finished, or the folder has files.
    """
    refuse_rest(rest)
    silence_libraries()
    from distill.export.serving.folder import write_folder

    if options.onnx:
        from distill.export.serving.onnx_file import write_missing_onnx

        write_missing_onnx(options.run)
    for path in write_folder(options.run, Path(options.folder)):
        print(f"{path}  {path.stat().st_size:,} bytes")
    return 0
