"""Parts of the command line that several commands share: the form of the help, and options."""

import argparse
import sys
from pathlib import Path
from typing import Any, NoReturn

from md2dist.console import make_presentable
from md2dist.published_options import find_published_option


class HelpFormatter(argparse.HelpFormatter):
    """Wraps paragraphs, keeps examples, and adds the default of each option that has one."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = []
        for paragraph in text.strip().split("\n\n"):
            is_example = paragraph.startswith("    ")
            paragraphs.append(
                paragraph if is_example else super()._fill_text(paragraph, width, indent)
            )
        return "\n\n".join(paragraphs)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        default, text = action.default, action.help or ""
        is_absent = default in (None, [], argparse.SUPPRESS) or default is False
        if is_absent or "default" in text:
            return action.help
        shown = " ".join(map(str, default)) if isinstance(default, list) else str(default)
        return f"{text} (default: {shown.replace('%', '%%')})"


class CommandParser(argparse.ArgumentParser):
    """Parser of a command line, which quotes no secrets and no control characters of it.

    Its errors explain options of the published code.

    Args:
        description: paragraphs and examples of the help.
        **options: as for `argparse.ArgumentParser`.
    """

    def __init__(self, description: str | None = None, **options: Any):
        super().__init__(description=description, formatter_class=HelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        """Prints the error and exits with code 2."""
        options = [word.partition("=")[0] for word in sys.argv[1:] if word.startswith("--")]
        foreign = [name for name in options if name not in self._option_string_actions]
        known = [find_published_option(name.removeprefix("--")) for name in foreign]
        super().error(make_presentable("; ".join([message, *filter(None, known)])))


def add_checkpoint(
    parser: argparse.ArgumentParser, alternatives: argparse._ActionsContainer | None = None
) -> None:
    """Adds `--checkpoint` and `--weights-dir`, paths for `load_model`.

    Args:
        parser: parser of a command.
        alternatives: group of options of which one is required, to which `--checkpoint` belongs;
            None: it is required itself.
    """
    (alternatives or parser).add_argument(
        "--checkpoint",
        type=Path,
        required=alternatives is None,
        help="run folder (its newest checkpoint), checkpoint folder such as "
        "RUN/checkpoints/best, folder or file of weights, or name of a published model such as "
        "mono+stereo_640x192, which is downloaded once (docs/model_zoo.md)",
    )
    parser.add_argument(
        "--weights-dir",
        type=Path,
        help="folder with the archives or extracted folders of published models, used instead of "
        "the network",
    )


def add_dtype(parser: argparse.ArgumentParser) -> None:
    """Adds `--dtype`, a data type for `load_model`."""
    parser.add_argument(
        "--dtype",
        choices=["auto", "fp32", "bf16", "fp16"],
        default="auto",
        help="data type of the networks; auto: precision.dtype of the run (if auto: bf16 if "
        "this machine has bf16 instructions, else fp32), fp32 for published weights",
    )


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """Adds `--overwrite`, which lets results replace files that md2dist did not write."""
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace existing files of the same names, also those that md2dist did not write",
    )


def add_local_rank(parser: argparse.ArgumentParser) -> None:
    """Adds the option that launchers pass to each process, whose variables say the same."""
    parser.add_argument("--local_rank", "--local-rank", type=int, help=argparse.SUPPRESS)
