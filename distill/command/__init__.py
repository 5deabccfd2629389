"""The command: its verbs, their options, and the exit codes."""
