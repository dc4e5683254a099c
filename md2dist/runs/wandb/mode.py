"""W&B's mode, decided once and before the start: online, offline or disabled."""

import configparser
import netrc
import os

from md2dist.errors import ConfigError
from md2dist.runs.wandb.server import describe_silence
from md2dist.storage.typed_json import make_printable

_VARIABLE = "WANDB_MODE"
_MODES = ("online", "offline", "disabled")
_OTHER_MODES = "set log.wandb_mode=offline or log.wandb_mode=disabled"


def choose_mode(setting: str) -> tuple[str, str]:
    """Decides the mode; only the main rank needs it.

    It corrects the variables of W&B in the environment, for W&B fails on some of them: `WANDB_MODE`
    becomes the mode, and empty ones, which count as unset, are removed.

    Args:
        setting: online, offline, disabled, or auto: `WANDB_MODE` if it is set, else online with a
            W&B account, else offline.

    Returns:
        The mode, and a line for the log, empty where there is nothing to report. Where W&B should
        be online but its server does not answer within a few seconds, the mode is offline.

    Raises:
        ConfigError: if `WANDB_MODE` is none of the modes, if the API key or another variable of W&B
            is malformed, or if W&B should be online without an account.
    """
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        os.environ[name] = os.environ[name].strip()
        if not os.environ[name]:
            del os.environ[name]
    mode, source = setting, "log.wandb_mode"
    if setting == "auto" and _VARIABLE in os.environ:
        mode, source = _mode_of_environment(), _VARIABLE
    report = ""
    os.environ[_VARIABLE] = "online" if mode == "auto" else mode
    if mode in ("auto", "online"):
        address = _read_address()
        if not _has_account():
            if mode == "online":
                raise ConfigError(
                    f"{source}=online, but no W&B account was found; log in with `wandb login`, "
                    f"set WANDB_API_KEY, or {_OTHER_MODES}"
                )
            mode = "offline"
        elif address and (silence := describe_silence(address)):
            mode, report = "offline", f"W&B logs offline: {silence}"
        else:
            mode = "online"
    elif mode == "offline":
        _read_address()  # W&B refuses malformed settings in this mode, too
    os.environ[_VARIABLE] = mode
    return mode, report


def _mode_of_environment() -> str:
    mode = os.environ[_VARIABLE].lower()
    if mode not in _MODES:
        raise ConfigError(
            f"{_VARIABLE}={make_printable(os.environ[_VARIABLE])} is not a mode of W&B: set it to "
            f"{', '.join(_MODES[:-1])} or {_MODES[-1]}, or unset it"
        )
    return mode


def _read_address() -> str | None:
    """Returns the address of W&B's server, from its variables and settings files.

    It is None if W&B reaches it by a proxy of its own.
    """
    # Otherwise `login` requests the account's name from the server to print it.
    os.environ["WANDB_SILENT"] = "true"
    from pydantic import ValidationError
    from wandb.errors import UsageError
    from wandb.sdk import wandb_setup  # `wandb.setup` would start the service

    try:
        settings = wandb_setup.singleton().settings
        has_proxy = settings.http_proxy or settings.https_proxy or settings.x_proxies
        return None if has_proxy else settings.base_url
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        name = f"WANDB_{'_'.join(map(str, fault['loc'])).upper()}"
        raise ConfigError(
            f"W&B's setting {name} is malformed: {fault['msg']}; correct it in the environment or "
            "W&B's settings files, or set log.wandb_mode=disabled"
        ) from None
    except UsageError as error:  # an API key with spaces
        raise _malformed_key(error) from None
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        raise _unreadable_files(error) from None


def _has_account() -> bool:
    """Returns whether W&B finds an API key in the environment, netrc or its settings."""
    import wandb
    from wandb.errors import AuthenticationError

    try:
        return wandb.login(prompt=False, verify=False)
    except AuthenticationError as error:
        raise _malformed_key(error) from None
    except (OSError, UnicodeDecodeError, netrc.NetrcParseError) as error:
        raise _unreadable_files(error) from None


def _unreadable_files(error: Exception) -> ConfigError:
    return ConfigError(
        f"W&B's settings or ~/.netrc cannot be read: {error}; correct them, or {_OTHER_MODES}"
    )


def _malformed_key(error: Exception) -> ConfigError:
    return ConfigError(
        f"W&B's API key is malformed: {str(error).rstrip('.')}; copy all of it to WANDB_API_KEY, "
        f"log in again with `wandb login`, or {_OTHER_MODES}"
    )
