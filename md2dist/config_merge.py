"""Merging of YAML files and `key=value` overrides into a typed schema."""

import reprlib
from collections.abc import Iterator
from dataclasses import is_dataclass
from difflib import get_close_matches
from itertools import combinations
from pathlib import Path
from typing import Any, cast, get_type_hints

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from md2dist.config_yaml import parse_value, read_yaml, shorten
from md2dist.errors import ConfigError
from md2dist.published_options import find_published_option
from md2dist.storage.addresses import public_address

_MAX_NAMES = 8  # in a dotted key
_PLACEHOLDER = "'$VALUE' of type '$VALUE_TYPE' "  # which OmegaConf leaves unfilled


class ConfigMerge:
    """A tree of settings: the defaults of a schema, into which sources are merged in turn.

    A setting of type str is taken verbatim. YAML parses `2011_09_26`, `001` and `no` as other
    types: in a file they must be quoted, on the command line they need no quotes.

    Args:
        schema: a dataclass of settings and of sections, which are dataclasses of settings.
    """

    def __init__(self, schema: type[Any]):
        self._types = get_type_hints(schema)
        self._sections = {name: kind for name, kind in self._types.items() if is_dataclass(kind)}
        for section, kind in self._sections.items():
            self._types |= {f"{section}.{name}": t for name, t in get_type_hints(kind).items()}
        self._tree = OmegaConf.structured(schema)
        for node in (self._tree, *(self._tree[section] for section in self._sections)):
            OmegaConf.set_readonly(node, False)  # frozen dataclasses yield read-only nodes

    def add_file(self, path: Path) -> None:
        """Merges a YAML file.

        Raises:
            ConfigError: if it cannot be read, or a key is unknown or its value of the wrong type.
        """
        for key, value in self._walk(_read_yaml(path)):
            self._set(key, value, f"{path}: {key}")

    def add_override(self, override: str) -> None:
        """Merges ``section.key=value``; text is taken verbatim, and as None if empty or ``null``.

        A list of texts may be written as a single one without brackets.

        Raises:
            ConfigError: if it is malformed, its key unknown or its value of the wrong type.
        """
        key, equals, text = override.partition("=")
        if not equals:
            raise ConfigError(f"override {shorten(repr(override))}: expected section.key=value")
        is_quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
        is_one_text = self._is_text_list(key) and not text.startswith("[")
        if (self._is_text(key) or is_one_text) and not is_quoted:
            self._set(key, None if text in ("", "null") else text, override)
            return
        value = parse_value(text, shorten(override))
        names = key.split(".")
        if len(names) > _MAX_NAMES:
            raise ConfigError(f"{shorten(override)}: unknown setting; expected section.key=value")
        for name in reversed(names):
            value = {name: value}
        for inner, innermost in self._walk(cast(dict[str, Any], value)):
            self._set(inner, innermost, override)

    def finish(self) -> Any:
        """Returns the merged settings as an object of the schema.

        Raises:
            ConfigError: if an interpolation refers to a missing setting.
        """
        try:
            return OmegaConf.to_object(self._tree)
        except OmegaConfBaseException as error:
            raise ConfigError(shorten(error)) from None
        except RecursionError:
            raise ConfigError("an interpolation ${...} refers to itself; write its value") from None

    def _walk(self, addition: dict[str, Any], section: str = "") -> Iterator[tuple[str, Any]]:
        """Yields dotted keys and values of a mapping, including those of unknown sections."""
        for name, value in addition.items():
            key = f"{section}{name}"
            is_unknown = value and not section and key not in self._types
            if isinstance(value, dict) and (key in self._sections or is_unknown):
                yield from self._walk(value, f"{key}.")
            else:
                yield key, value

    def _is_text(self, key: str) -> bool:
        return self._types.get(key) in (str, str | None)

    def _is_text_list(self, key: str) -> bool:
        return self._types.get(key) == tuple[str, ...]

    def _set(self, key: str, value: Any, origin: str) -> None:
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str):
                public_address(text)  # errors may quote it
        origin = shorten(origin)
        if key not in self._types:
            raise ConfigError(f"{origin}: unknown setting; {self._suggest(key)}")
        if self._is_text_list(key):
            value = [] if value is None else value if isinstance(value, list) else [value]
            value = [_as_text(text, origin) for text in value]
        elif self._is_text(key) and value is not None:
            value = _as_text(value, origin)
        try:
            OmegaConf.update(self._tree, key, value)
        except (OmegaConfBaseException, RecursionError) as error:
            raise _refuse(origin, error) from None

    def _suggest(self, key: str) -> str:
        """Suggests similar settings, or explains an option of the published code.

        Without either, lists the settings of the section, or all sections.
        """
        section, _, name = key.rpartition(".")
        settings = {
            known: known.rpartition(".")[2] for known in self._types if known not in self._sections
        }
        inside = {known: leaf for known, leaf in settings.items() if known == f"{section}.{leaf}"}
        alike = [known for known, leaf in settings.items() if leaf == name]
        published = None if alike else find_published_option(name)
        if published:
            return published
        alike = alike or _find_alike(name, inside, cutoff=1.0)
        if not alike:
            alike = _find_alike(name, inside or settings)
            alike += [k for k in _find_alike(name, settings, cutoff=1.0) if k not in alike]
        if alike:
            return f"did you mean {' or '.join(alike)}?"
        if inside:
            return f"the settings of {section} are {', '.join(inside.values())}"
        sections = ", ".join(f"{section}.*" for section in self._sections)
        others = ", ".join(known for known in settings if "." not in known)
        return f"expected one of {sections} and {others}"


def _as_text(value: Any, origin: str) -> str:
    """Returns text as it is, with the home folder in place of ``~/``.

    Raises:
        ConfigError: for a value of another type, or without a home folder.
    """
    if not isinstance(value, str):
        raise ConfigError(
            f"{origin}: expected text, but YAML parses it as {reprlib.repr(value)}; put it in "
            "quotes"
        )
    if not value.startswith("~/"):
        return value
    try:
        return str(Path(value).expanduser())  # shells do not expand it after the `=`
    except RuntimeError:
        raise ConfigError(
            f"{origin}: this user has no home folder; set HOME, or use an absolute path"
        ) from None


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns the values of nested sections by their dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        nested = isinstance(value, dict)
        flat |= flatten(value, f"{prefix}{key}.") if nested else {prefix + key: value}
    return flat


def _find_alike(name: str, leaves: dict[str, str], cutoff: float = 0.8) -> list[str]:
    """Finds settings with a similar name, else settings of which a part is similar."""
    parts = {part for leaf in leaves.values() for part in _parts(leaf)}
    close = get_close_matches(name, parts, 1, cutoff)
    return [known for known, leaf in leaves.items() if leaf in close] or [
        known for known, leaf in leaves.items() if _parts(leaf).intersection(close)
    ]


def _parts(leaf: str) -> set[str]:
    """Returns all runs of whole words, e.g. `batch_size` and `lr` of `lr_batch_size`."""
    words = leaf.split("_")
    return {"_".join(words[i:j]) for i, j in combinations(range(len(words) + 1), 2)}


def packaged_file(path: Path) -> Path | None:
    """Returns the packaged file that ``configs/.../NAME.yaml`` names, None if there is none."""
    if path.parts[:1] != ("configs",) or ".." in path.parts:
        return None
    package = Path(__file__).parent
    files = (folder / path for folder in (package, package.parent))  # wheel, checkout
    return next((file for file in files if file.is_file()), None)


def _find_file(path: Path) -> Path:
    """Returns the file, or the packaged one if it is missing."""
    return path if path.exists() else packaged_file(path) or path


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = read_yaml(_find_file(path), str(path))
    except FileNotFoundError:
        folders = ("", "configs", "configs/experiments")
        places = [Path(folder, f"{path}{end}") for folder in folders for end in ("", ".yaml")]
        found = next((place for place in places if _find_file(place).is_file()), None)
        remedy = f"did you mean {found}?" if found else "see configs/ for examples"
        raise ConfigError(f"configuration file {path} not found; {remedy}") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from None
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path} holds a {type(content).__name__}; expected sections such as `optim:`"
        )
    return cast(dict[str, Any], content)


def _refuse(origin: str, error: Exception) -> ConfigError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return ConfigError(f"{origin}: {shorten(reason.replace(_PLACEHOLDER, ''))}")
