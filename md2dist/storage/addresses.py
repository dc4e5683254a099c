"""Public form of addresses, without their secrets; only this form is stored, logged and printed.

A URL loses its user, its password and its query. Of a `pipe:` command, every word that may be a
secret becomes `***`: all but programs, options, names of variables, and the files it reads.
"""

import re
from collections.abc import Sequence
from typing import Any

MASK = "***"

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}://(?:[^\s/?#@]*@)*[^\s'\"<>`]*")
_SHA256 = re.compile(r"#sha256=[0-9a-fA-F]{64}")
_SENTENCE = "),.;:]"  # goes on behind an address
_PIPE = re.compile(r"(?<!\w)(?<!roken )pipe:(?=\s*\S)")
_PIPE_IN_TEXT = re.compile(rf"{_PIPE.pattern}[^\n]*")

# Words of a shell command.
_WORD = re.compile(r"(?:[^\s'\"\\]|\\.|'[^']*'|\"(?:[^\"\\]|\\.)*\")+|\S", re.DOTALL)
_BEFORE_PROGRAMS = "| || && ; & ! { ( do then else if while until exec sudo"
_COMMON = """
    cat tac head tail dd tar gzip gunzip zcat zstd zstdcat lz4 xz xzcat curl wget ssh scp aws s3
    s3api s3cmd cp gsutil gcloud storage rclone hdfs hadoop dfs fs azcopy mc docker kubectl sh bash
    nice env timeout sleep echo exit for in fi done elif true [ ] } ) > >> < 2>&1 2>/dev/null - --
    -cat -sS -fsS -fsSL -sSL -sSf -qO- -O- {}
"""
_STARTS = frozenset(_BEFORE_PROGRAMS.split())
_PLAIN = _STARTS | frozenset(_COMMON.split())
_HARMLESS = re.compile(r"--?[A-Za-z]|--[a-z]+(-[a-z]+)*|[\"']?\$(\w+|\{\w+\})[\"']?|[\"']")
_WITHOUT_OPTION = re.compile(r"\d{1,3}(\.\d{1,3})?|\d?>&\d")  # unless an option is before it
_ASSIGNMENT = re.compile(r"(-{0,2}[A-Za-z_][\w-]*=).*", re.DOTALL)
_PROGRAM = re.compile(r"[\w./+-]+")
_HOST = re.compile(r"(\w[\w.-]*@)?\w[\w.-]*")
_FILE = re.compile(r"(\w[\w.-]*@)?[\w./~{}:+,%-]+")  # with {} for the name of the file

_known: dict[str, str] = {}  # public forms of the addresses seen so far, which texts may hold


def public_address(address: str) -> str:
    """Returns an address as it may be stored and shown; one without secrets is unchanged.

    Args:
        address: a URL, or `pipe:COMMAND`; anything else, such as a path, is unchanged.
    """
    if _PIPE.match(address):
        public, _ = _mask_command(address)
        _known[address] = _known[public] = public
    elif _URL.match(address):
        public, _ = _mask_url(address)
        if public != address:
            _known[address] = public
    else:
        return address
    return public


def public_text(text: str) -> str:
    """Masks every address inside a text.

    A command that `public_address` has not seen has no known end: it is masked up to the end of its
    line.
    """
    known = sorted((address for address in _known if address in text), key=len, reverse=True)
    if not known:
        return _mask_text(text)
    pieces = re.split(f"({'|'.join(map(re.escape, known))})", text)
    pieces[::2] = map(_mask_text, pieces[::2])
    pieces[1::2] = (_known[address] for address in pieces[1::2])
    return "".join(pieces)


def public_setting(value: Any) -> Any:
    """Masks the addresses in a setting, or in all values of nested dictionaries and lists."""
    if isinstance(value, str):
        return public_address(value) if _PIPE.match(value) else public_text(value)
    if isinstance(value, dict):
        return {name: public_setting(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(public_setting, value))
    return value


def remember_addresses(words: Sequence[str]) -> None:
    """Notes the addresses among the words of a command line, which errors may quote."""
    for word in words:
        value = word.partition("=")[2]
        for address in (word, value, value.strip("'\"")):
            public_address(address)


def is_masked(address: str) -> bool:
    """Returns whether an address is a command of which secret words are missing."""
    return bool(_PIPE.match(address)) and MASK in address


def mask_secrets(text: str, address: str) -> str:
    """Masks what an address hides, in a text of the server or command behind it."""
    is_pipe = _PIPE.match(address)
    _, hidden = _mask_command(address) if is_pipe else _mask_url(address)
    parts = {part for text in hidden for part in (text, *re.split(r"[\s'\"=:,&;]+", text))}
    for part in sorted(parts - _PLAIN, key=len, reverse=True):
        if len(part) > 2:
            text = text.replace(part, MASK)
    return public_text(text)


def _mask_text(text: str) -> str:
    text = _PIPE_IN_TEXT.sub(lambda match: _mask_command(match[0])[0], text)
    return _URL.sub(_mask_url_in_text, text)


def _mask_url_in_text(match: re.Match[str]) -> str:
    url = match[0].rstrip(_SENTENCE)
    return _mask_url(url)[0] + match[0].removeprefix(url)


def _mask_url(url: str) -> tuple[str, list[str]]:
    """Returns the public form of a URL, and the parts that it lacks."""
    scheme, _, rest = url.partition("://")
    pin = _SHA256.search(rest)
    base, _, query = rest.partition("?")
    base, _, fragment = base.partition("#")
    server, slash, path = base.partition("/")
    login, _, host = server.rpartition("@")
    base = host + slash + path
    if not login and "@" in rest and re.search(r":(?!\d*$)[^\]]*$", server):
        login, _, base = rest.rpartition("@")  # the password has one of /?#
        base, _, query = base.partition("?")
        base, _, fragment = base.partition("#")
    hidden = [part for part in (login, query, fragment * (pin is None)) if part]
    return f"{scheme}://{base}{pin[0] if pin else ''}", hidden


def _mask_command(address: str) -> tuple[str, list[str]]:
    """Returns the public form of `pipe:COMMAND`, and the words that it lacks, plain names aside."""
    prefix, _, command = address.partition(":")
    public, hidden, before, position = f"{prefix}:", list[str](), "|", 0
    for match in _WORD.finditer(command):
        word = _mask_word(match[0], before)
        public += command[position : match.start()] + word
        is_name = match[0].isalpha() and match[0].islower() and not before.startswith("-")
        hidden += [match[0]] * (word != match[0] and not is_name)
        before, position = match[0], match.end()
    return public + command[position:], hidden


def _mask_word(word: str, before: str) -> str:
    core = word.rstrip(";")
    inner = core.strip("'\"")
    is_first = before in _STARTS or before.endswith(";")
    is_shown = core in _PLAIN or _HARMLESS.fullmatch(core) or not inner
    if is_shown or (is_first and _PROGRAM.fullmatch(core)):
        return word
    if assigned := _ASSIGNMENT.fullmatch(core):
        return f"{assigned[1]}{MASK}{word.removeprefix(core)}"
    if _URL.fullmatch(inner):
        return word.replace(inner, _mask_url(inner)[0])
    is_number = _WITHOUT_OPTION.fullmatch(core) and not before.startswith("-")
    is_file = "{}" in inner and _FILE.fullmatch(inner)
    is_host = before == "ssh" and _HOST.fullmatch(core)
    return word if is_file or is_host or is_number else f"{MASK}{word.removeprefix(core)}"
