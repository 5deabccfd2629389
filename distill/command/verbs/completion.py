"""Print a script by which a shell completes verbs, options, sections of a config, and files."""

from __future__ import annotations

import argparse

from distill.command.options import refuse_rest

_SCRIPT = """\
# In bash: eval "$(distill completion)"; in zsh after: autoload -U +X bashcompinit && bashcompinit
_distill() {
  local word="${COMP_WORDS[COMP_CWORD]}" words=""
  if [ "$COMP_CWORD" -eq 1 ]; then words="VERBS"; else
    case "${COMP_WORDS[1]}" in
CASES
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}
complete -o default -F _distill distill
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add no options."""


def execute(options: argparse.Namespace, rest: list[str]) -> int:
    """Print the script, and return the exit code.

    Raises:
        ConfigError: if an option is given.
    """
    refuse_rest(rest)
    from distill.command.main import NAMES, find_verb, has_topics, parser_of  # they name this module
    from distill.experiment.overview import sections

    cases = []
    for name in NAMES:
        parser = parser_of(find_verb(name))
        keys = [f"--{section}." for section in sections()] if has_topics(parser) else []
        cases.append(f'      {name}) words="{" ".join([*_options(parser), *keys])}";;')
    print(_SCRIPT.replace("VERBS", " ".join(NAMES)).replace("CASES", "\n".join(cases)), end="")
    return 0


def _options(parser: argparse.ArgumentParser) -> list[str]:
    """Return the long options of a verb, read from its usage."""
    words = parser.format_usage().replace("[", " ").replace("]", " ").split()
    return [word for word in dict.fromkeys(words) if word.startswith("--")]
