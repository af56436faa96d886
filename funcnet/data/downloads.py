"""Downloads: the content of an address, within a size and a time."""

from __future__ import annotations

from concurrent.futures import Future
from http.client import HTTPMessage, HTTPResponse
from io import BytesIO
from threading import Thread
from time import monotonic
from typing import IO, Final, cast
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

_CHUNK: Final = 2**16


def fetch(url: str, *, limit: int, timeout: float, deadline: float) -> bytes:
    """Return the content of an address. Redirections are followed to https addresses only.

    A thread downloads the content, because no single timeout covers the search for the address, the connection, the
    headers and the content together. A thread that is late is abandoned; it cannot keep the process alive.

    Args:
        url: The address.
        limit: The most bytes that the content may have.
        timeout: The most seconds that the server may be silent.
        deadline: The most seconds that the whole download may take.

    Raises:
        TimeoutError: If the server is silent for too long, or the download is not complete by the deadline.
        OSError, http.client.HTTPException, ValueError: If the download fails, redirects to an address that is not
            https, or is larger than the limit, or if no thread can be started.
    """
    done: Future[bytes] = Future()

    def work() -> None:
        try:
            done.set_result(_content(url, limit, timeout, deadline))
        except BaseException as error:  # noqa: BLE001  # the caller raises it
            done.set_exception(error.with_traceback(None))  # a traceback would keep the connection open

    try:
        Thread(target=work, name="funcnet-download", daemon=True).start()
    except RuntimeError as error:  # a system without threads, such as WebAssembly
        raise OSError(str(error)) from None
    try:
        return done.result(deadline)
    except TimeoutError:
        if done.done():
            raise
        raise _late(deadline) from None


def _content(url: str, limit: int, timeout: float, deadline: float) -> bytes:
    end = monotonic() + deadline
    content = BytesIO()
    with _opened(url, timeout) as response:
        while chunk := response.read1(_CHUNK):
            content.write(chunk)
            if content.tell() > limit:
                raise ValueError(f"the content has more than {limit} bytes")
            if monotonic() > end:
                raise _late(deadline)
    return content.getvalue()


def _opened(url: str, timeout: float) -> HTTPResponse:
    try:
        return cast("HTTPResponse", build_opener(HttpsRedirects).open(url, timeout=timeout))
    except HTTPError as error:
        error.close()
        raise


def _late(deadline: float) -> TimeoutError:
    return TimeoutError(f"the download is not complete after {deadline:g} s")


class HttpsRedirects(HTTPRedirectHandler):
    """Follows redirections to https addresses and refuses all others."""

    def redirect_request(  # noqa: PLR0917  # urllib's signature
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        """Return the request for the new address.

        Raises:
            URLError: If the new address is not https.
        """
        if urlsplit(newurl).scheme != "https":
            fp.close()
            raise URLError(f"it redirects to {newurl!r:.200}, which is not an https address")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
