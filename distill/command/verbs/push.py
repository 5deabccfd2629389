"""Upload the student of a finished run to a model hub, with its model card and ONNX file."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from distill.command.options import refuse_rest
from distill.config.errors import ConfigError
from distill.training.callbacks.display.quiet import silence_libraries


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("run", help="the folder of a run, or of its student alone")
    parser.add_argument("repository", help="its name on the hub, as me/tinybert-sst2; it is made if it is missing")
    parser.add_argument("--private", action="store_true", help="make a private repository")


def execute(options: argparse.Namespace, rest: list[str]) -> int:
    """Upload the student and print its address, and return the exit code.

    Raises:
        ConfigError: if the run is not finished, or the hub refuses.
    """
    refuse_rest(rest)
    silence_libraries()
    import httpx2
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    from distill.export.serving.folder import write_folder

    api = HfApi()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "student"
        write_folder(options.run, folder)
        try:
            api.create_repo(options.repository, private=options.private, exist_ok=True)
            api.upload_folder(
                repo_id=options.repository, folder_path=folder, commit_message="A student made by distill-compress"
            )
        except HFValidationError as error:
            raise ConfigError(f"{options.repository}: {error}") from error
        except (HfHubHTTPError, OfflineModeIsEnabled, OSError, httpx2.HTTPError) as error:
            hint = "; log in with `hf auth login`" if "401" in str(error) or "token" in str(error).lower() else ""
            raise ConfigError(
                f"{options.repository}: the hub at {api.endpoint} did not take it: {error}{hint}"
            ) from error
    print(f"{api.endpoint}/{options.repository}")
    return 0
