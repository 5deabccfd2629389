"""``python -m distill``."""

from distill.command.main import start

start()
