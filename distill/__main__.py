"""``python -m distill``."""

from distill.command.main import start

if __name__ == "__main__":
    start()
