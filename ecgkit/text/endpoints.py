"""Where text may go: the loopback rule, and one POST that keeps to it.

Text derived from credentialed records (MIMIC) goes to this machine only, unless the user says
otherwise. This machine means `localhost` or a literal loopback address in the URL: a name that
happens to resolve to one today may resolve elsewhere tomorrow. The connection checks its peer once
more before anything is sent, follows no redirect, and passes by every proxy.

Usage:

    check("http://127.0.0.1:8000/v1", credentialed=True)        # raises ConfigError if remote
    status, headers, body = post(url, b"{}", {"Content-Type": "application/json"}, timeout=30)
"""

from __future__ import annotations

import errno
import http.client
import ipaddress
import socket
import ssl
import time
import urllib.error
import urllib.request
from urllib.parse import SplitResult, urlsplit

from ecgkit.types import ConfigError, KitError

MAX_BYTES = 64 * 2**20  # of an answer; a batch of embeddings is a few MiB


class EndpointError(KitError):
    """An endpoint gave no usable answer.

    `again`: the same request may succeed later; `wait_s`: how long the server asks to wait;
    `every`: any other request would fail alike (nobody there, key refused, quota spent).
    """

    def __init__(self, text: str, again: bool = False, wait_s: float = 0.0, every: bool = False):
        super().__init__(text)
        self.again, self.wait_s, self.every = again, wait_s, every


def is_loopback(url: str) -> bool:
    """True when `url` names this machine for certain: localhost, 127.0.0.0/8 or [::1]."""
    try:
        host = split(url).hostname or ""
    except ConfigError:
        return False
    return host == "localhost" or _is_loopback_address(host)


def check(url: str, credentialed: bool, allow_remote: bool = False) -> None:
    """Raises ConfigError for a malformed `url`, and for another machine where the text comes from
    `credentialed` records and the user has not said `allow_remote`.
    """
    host = split(url).hostname
    if credentialed and not allow_remote and not is_loopback(url):
        raise ConfigError(
            f"{host} is not certainly this machine, and text of credentialed records (MIMIC) stays "
            "here: serve a model at http://127.0.0.1:PORT/v1, or set ALLOW_REMOTE_TEXT=true if "
            "your data use agreement lets this text leave."
        )


def split(url: str) -> SplitResult:
    """The parts of an http(s) URL, or ConfigError for one that two readers could read in two ways.

    A user name (`http://127.0.0.1@elsewhere`), a backslash or a blank are how one host is passed
    off as another; no endpoint needs them. The URL itself is not repeated: it may hold a password.
    """
    why = ""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  raises ValueError where it is no port
    except ValueError:
        raise ConfigError("LLM_URL cannot be read as a URL; give http://HOST:PORT/v1.") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        why = "does not start with http:// or https:// and a host"
    elif "@" in parts.netloc:
        why = "holds a user name; keys belong in the environment"
    elif "\\" in url or not url.isascii() or any(c.isspace() or not c.isprintable() for c in url):
        why = "holds a backslash, a blank or a character outside ASCII"
    elif parts.query or parts.fragment or "?" in url or "#" in url:
        why = "holds a ? or #"
    if why:
        raise ConfigError(f"LLM_URL {why}; give the base URL alone, e.g. http://HOST:PORT/v1.")
    return parts


def post(
    url: str, body: bytes, headers: dict[str, str], timeout_s: float
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """(status, headers, body) of one POST, redirects and errors included: 3xx is an answer here.

    Raises EndpointError where no whole answer comes within `timeout_s` (of connecting, and of the
    answer as a whole).
    """
    host, near = split(url).netloc, is_loopback(url)
    request = urllib.request.Request(url, body, headers, method="POST")
    end = time.monotonic() + timeout_s
    try:
        with _opener(near).open(request, timeout=timeout_s) as answer:
            return answer.status, answer.headers, _read(answer, end)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, _read_what_comes(error, end)
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(host, getattr(error, "reason", error), timeout_s) from None


def _unreachable(host: str, reason, timeout_s: float) -> EndpointError:
    """What a failed connection says; only its kind is told, never what was sent."""
    if isinstance(reason, TimeoutError):
        return EndpointError(f"{host} did not answer within {timeout_s:g} s.", again=True)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return EndpointError(
            f"{host} shows a certificate that this machine does not trust "
            f"({reason.verify_message}); have it trusted, e.g. by SSL_CERT_FILE.", every=True
        )  # fmt: skip
    said = getattr(reason, "strerror", None) or type(reason).__name__
    nobody = isinstance(reason, (ConnectionRefusedError, socket.gaierror, _NotHere))
    return EndpointError(
        f"{host} cannot be reached ({said}); is the server up, and LLM_URL right?",
        again=not isinstance(reason, _NotHere), every=nobody,
    )  # fmt: skip


def _read(answer, end: float) -> bytes:
    """The whole body; a server that drips for ever is cut off at `end` (monotonic seconds)."""
    chunks, size = [], 0
    while chunk := answer.read1(65536):
        chunks.append(chunk)
        size += len(chunk)
        if time.monotonic() > end:
            raise TimeoutError
        if size > MAX_BYTES:
            raise EndpointError(f"The answer is longer than {MAX_BYTES >> 20} MiB; is it a model?")
    return b"".join(chunks)


def _read_what_comes(answer, end: float) -> bytes:
    """The body of an error: its status is what matters, so a broken body is an empty one."""
    try:
        return _read(answer, end)
    except (OSError, http.client.HTTPException, EndpointError):
        return b""


def _opener(near: bool) -> urllib.request.OpenerDirector:
    if not near:
        return urllib.request.build_opener(_NoRedirect)
    return urllib.request.build_opener(
        _NoRedirect, urllib.request.ProxyHandler({}), _NearHTTP, _NearHTTPS
    )


def _is_loopback_address(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args, **_kwargs):
        return None  # urllib then raises the 3xx as an HTTPError


class _NotHere(OSError):
    pass


class _PeerCheck:
    """`localhost` is what the resolver makes of it, so ask the socket before sending."""

    def connect(self):
        super().connect()
        if not _is_loopback_address(self.sock.getpeername()[0]):
            self.close()
            raise _NotHere(errno.EADDRNOTAVAIL, "its address is not this machine's")


class _NearConnection(_PeerCheck, http.client.HTTPConnection):
    pass


class _NearTLS(_PeerCheck, http.client.HTTPSConnection):
    pass


class _NearHTTP(urllib.request.HTTPHandler):
    def http_open(self, request):
        return self.do_open(_NearConnection, request)


class _NearHTTPS(urllib.request.HTTPSHandler):
    def https_open(self, request):
        return self.do_open(_NearTLS, request)
