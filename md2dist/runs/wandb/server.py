"""Check that W&B's server answers, before W&B would wait for it for a minute."""

from http.client import HTTPException
from ssl import SSLError
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from md2dist.storage.transfer import TransferError, run_transfer
from md2dist.storage.typed_json import make_printable
from md2dist.storage.web import open_web

_TIMEOUT_S = 3.0
_GATEWAY_ERRORS = (502, 503, 504)  # of a proxy that does not reach the server


def describe_silence(address: str) -> str:
    """Sends one request to a server, and waits a few seconds at most.

    Args:
        address: a valid http or https URL.

    Returns:
        Why it does not answer, in one line, without user and password of the address; an empty text
        if it does. An error is an answer, and so is a certificate that only W&B may know.
    """
    host = make_printable(urlsplit(address).netloc.rpartition("@")[2])
    try:
        # Only a thread bounds the search for the name, too.
        run_transfer(lambda _: open_web(address, timeout=_TIMEOUT_S).close(), _TIMEOUT_S)
    except HTTPError as error:
        reason = f"HTTP {error.code}" if error.code in _GATEWAY_ERRORS else ""
    except TransferError:
        reason = "no answer"
    except URLError as error:
        is_certificate = isinstance(error.reason, SSLError)
        reason = "" if is_certificate else str(getattr(error.reason, "strerror", error.reason))
    except (OSError, HTTPException, ValueError) as error:
        reason = str(error) or type(error).__name__
    else:
        reason = ""
    return f"{host} cannot be reached ({make_printable(reason)})" if reason else ""
