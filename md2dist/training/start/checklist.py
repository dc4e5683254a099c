"""Checklist: checks that all ranks run together, with one line for each on the main rank."""

from collections.abc import Callable, Sequence
from typing import Any

from md2dist.console import describe_system_error, wrap_line, write_lines
from md2dist.distributed.agreement import raise_on_all_ranks
from md2dist.distributed.world import World
from md2dist.errors import Md2distError


class Advice(str):
    """Description of a check that has passed, with something to consider."""

    __slots__ = ()


class Checklist:
    """Runs checks one after another; all ranks run the same ones.

    Args:
        world: this process, connected.

    Attributes:
        values: what the checks that have passed returned, by name.
        num_failed: number of checks that have failed.
    """

    def __init__(self, world: World):
        self._world = world
        self.values: dict[str, Any] = {}
        self.num_failed = 0

    def run(
        self,
        name: str,
        check: Callable[..., Any],
        describe: Callable[[Any], str] = str,
        needs: Sequence[str] = (),
    ) -> None:
        """Runs a check and prints its line: ok, note, or what to do.

        Args:
            name: name of the check.
            check: called with the values of the checks that it needs; raises an Md2distError, or an
                error of a file, if it fails.
            describe: describes the value of a check that has passed; `Advice` makes it a note.
            needs: names of earlier checks; if one of them has not passed, this one is left out.
        """
        lacking = [needed for needed in needs if needed not in self.values]
        if lacking:
            self.print(name, "-", f"needs {lacking[0]}")
            return
        try:
            with raise_on_all_ranks(self._world):
                value, text = self._try(check, describe, [self.values[need] for need in needs])
        except Md2distError as error:
            self.num_failed += 1
            self.print(name, "ERROR", str(error))
            return
        self.values[name] = value
        self.print(name, "note" if isinstance(text, Advice) else "ok", text)

    def print(self, name: str, mark: str, text: str) -> None:
        """Prints a line on the main rank."""
        if self._world.is_main:
            one_line = text.replace("\n", "\\n")
            head = f"{name:<13} {mark:<5}  "
            write_lines(wrap_line(f"{head}{one_line}".rstrip(), len(head)))

    def _try(
        self, check: Callable[..., Any], describe: Callable[[Any], str], values: Sequence[Any]
    ) -> tuple[Any, str]:
        try:
            value = check(*values)
            return value, describe(value)
        except Md2distError:
            raise
        except Exception as error:  # of a file or a limit
            message = describe_system_error(error)
            if message is None:
                raise
            raise Md2distError(message) from None
