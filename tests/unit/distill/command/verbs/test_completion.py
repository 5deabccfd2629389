"""A shell completes verbs, options and sections of a config."""

import subprocess

import pytest

from distill.command.main import main


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["distill", "pre"], "predict"),
        (["distill", "predict", "runs/x", "--out"], "--output"),
        (["distill", "train", "--res"], "--resume"),
        (["distill", "train", "x.yaml", "--quant"], "--quantize."),
    ],
)
def test_a_shell_completes(capsys: pytest.CaptureFixture, words: list[str], completed: str) -> None:
    assert main(["completion"]) == 0
    script = capsys.readouterr().out
    script += f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; _distill; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert done.stdout.split() == [completed], done.stderr
