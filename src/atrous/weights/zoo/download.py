"""One file over HTTP into a place on disk: resumed, checked, and there whole or not at all."""

import hashlib
import http.client
import json
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from atrous.errors import WeightsError
from atrous.weights.zoo.cache import offline, writing
from atrous.weights.zoo.contents import describe, looks_like

Progress = Callable[[int, int | None], None]

_DELAYS = (0.5, 1.0, 2.0)  # seconds before each further attempt
_TIMEOUT = 30.0  # seconds for a connection to open, and for each read
_CHUNK = 1 << 18


def download(
    url: str,
    destination: str | Path,
    *,
    sha256: str | None = None,
    size: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Fetches `url` to `destination`, unless it is there already, and returns the latter.

    Of a file that is there only the size is looked at, if it is known; its hash is checked once, when it comes. What
    an interrupted transfer left beside the destination (`….part`) is continued if the server can and still has the
    same file. Two processes that want the same file fetch it once.

    Args:
        sha256: in hexadecimal, whole or its first eight digits or more.
        size: in bytes.
        progress: called with the bytes that are here and the bytes of the whole, or None where no one knows.

    Raises:
        WeightsError: it cannot be had, or what came is not it; nothing is then at `destination`.
    """
    destination = Path(destination)
    if sha256 and not re.fullmatch(r"[0-9a-fA-F]{8,64}", sha256):
        raise WeightsError(f"{url}: sha256 is {sha256!r}; it is given as 8 to 64 hexadecimal digits")
    if _is_whole(destination, size):
        return destination
    if offline():
        state = f"{destination.stat().st_size} bytes long, not {size}" if destination.is_file() else "not there"
        raise WeightsError(
            f"{destination}: {state}, and ATROUS_OFFLINE forbids fetching it: "
            f"download {url} by other means and put it there, or pass the file itself"
        )
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise WeightsError(f"{url}: cannot be fetched: only http:// and https:// addresses can")
    with writing(destination):
        if not _is_whole(destination, size):  # another process may have fetched it while this one waited
            part = _Part(destination)
            _transfer_with_retries(_Source(url, size), part, progress)
            _check(url, part, sha256)
            part.path.replace(destination)
            part.note.unlink(missing_ok=True)
    return destination


def _is_whole(path: Path, size: int | None) -> bool:
    return path.is_file() and size in (None, path.stat().st_size)


@dataclass(frozen=True)
class _Source:
    url: str
    size: int | None


@dataclass(frozen=True)
class _Version:
    """What tells one state of a server's file from another, kept beside a part of it."""

    url: str
    validator: str
    total: int | None

    def continues(self, other: "_Version") -> bool:
        """Whether its bytes can follow the other's."""
        return self.validator == other.validator and other.total in (None, self.total)


class _Part:
    """The beginning of a file, and a note of which file on which server it is the beginning of."""

    def __init__(self, destination: Path) -> None:
        self.destination = destination
        self.path = destination.with_name(f"{destination.name}.part")
        self.note = destination.with_name(f"{destination.name}.part.json")

    def version(self, url: str) -> _Version | None:
        """Which state of `url` this is a part of; None where that cannot be told."""
        try:
            version = _Version(**json.loads(self.note.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        return version if version.url == url and version.validator else None

    def length(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


class _CutError(Exception):
    """A transfer that may succeed if it is tried again."""


def _transfer_with_retries(source: _Source, part: _Part, progress: Progress | None) -> None:
    for delay in (*_DELAYS, None):
        try:
            _transfer(source, part, progress)
        except _CutError as cut:
            if delay is None:
                again = "run again to go on from there" if part.version(source.url) else "run again"
                raise WeightsError(
                    f"{part.destination}: {source.url} did not come in {len(_DELAYS) + 1} attempts ({cut}): {again}, "
                    "or put the file there by other means"
                ) from cut
            time.sleep(delay)
        else:
            return


def _transfer(source: _Source, part: _Part, progress: Progress | None) -> None:
    """Brings a part to its full length, from its end on if it can be continued."""
    version, start = part.version(source.url), part.length()
    headers = {"User-Agent": "atrous"}
    if version and start and start == version.total:
        return
    if version and start:
        headers |= {"Range": f"bytes={start}-", "If-Range": version.validator}
    with _open(source.url, headers, part) as response:
        came = _Version(source.url, _validator(response), _total(response))
        if response.status != http.client.PARTIAL_CONTENT:
            start = 0
        elif version is None or not came.continues(version) or _first(response) != start:
            part.discard()
            raise _CutError("the server continued another file than it began")
        if response.headers.get_content_type() == "text/html":
            page = describe(_read(response, 4096))
            raise WeightsError(f"{source.url}: {page} came in place of the file: {_reach(part)}")
        total = source.size if came.total is None else came.total
        if source.size not in (None, total):
            raise WeightsError(f"{source.url}: {total} bytes are offered where {source.size} belong: {_reach(part)}")
        with part.path.open("ab" if start else "wb") as file:
            # After the old bytes are gone and before new ones come: a note never describes bytes of another state.
            part.note.write_text(json.dumps(asdict(came)), encoding="utf-8")
            done = _copy(response, file, start, total, progress)
    if total is not None and done > total:
        part.discard()
        raise WeightsError(f"{source.url}: more than the {total} bytes that belong came: {_reach(part)}")


def _copy(
    response: http.client.HTTPResponse, file: IO[bytes], done: int, total: int | None, progress: Progress | None
) -> int:
    """Copies the body to its end, or to the first bytes beyond `total`; returns how many bytes are here then."""
    if progress:
        progress(done, total)
    while (total is None or done <= total) and (chunk := _read(response, _CHUNK)):
        file.write(chunk)
        done += len(chunk)
        if progress:
            progress(done, total)
    if total is not None and done < total:
        raise _CutError(f"the connection was cut after {done} of {total} bytes")
    return done


def _read(response: http.client.HTTPResponse, limit: int) -> bytes:
    try:
        return response.read1(limit)
    except (OSError, http.client.HTTPException) as error:
        raise _CutError(f"the connection was cut: {_one_line(error)}") from error


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Redirects within the web, and never from https to what others on the way can change."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        allowed = ("https",) if req.type == "https" else ("http", "https")
        if urlsplit(newurl).scheme not in allowed:
            raise WeightsError(f"{req.full_url}: is redirected to {_one_line(newurl)}, which is not {allowed[0]}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(url: str, headers: dict[str, str], part: _Part) -> http.client.HTTPResponse:
    request = urllib.request.Request(url, headers=headers)
    try:
        response: http.client.HTTPResponse = urllib.request.build_opener(_Redirects).open(request, timeout=_TIMEOUT)
        return response
    except urllib.error.HTTPError as error:
        error.close()
        answer = f"the server answers {error.code} {_one_line(error.reason)}"
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.discard()
        elif error.code < 500 and error.code not in (http.client.REQUEST_TIMEOUT, http.client.TOO_MANY_REQUESTS):
            raise WeightsError(f"{url}: {answer}: {_reach(part)}") from error
        raise _CutError(answer) from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise WeightsError(
                f"{url}: the server's certificate is not trusted ({_one_line(error.reason.verify_message)}): "
                "set SSL_CERT_FILE to your network's certificates"
            ) from error
        raise _CutError(_one_line(error.reason)) from error
    except (OSError, http.client.HTTPException) as error:
        raise _CutError(_one_line(error) or type(error).__name__) from error


def _reach(part: _Part) -> str:
    return f"download it by other means and put it at {part.destination}, or pass the file itself"


def _validator(response: http.client.HTTPResponse) -> str:
    """What `If-Range` may carry (RFC 9110, 13.1.5): a strong ETag, or the date; empty without either."""
    etag = response.headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")


def _total(response: http.client.HTTPResponse) -> int | None:
    """The length of the whole file, of which this response may be the end."""
    if response.status == http.client.PARTIAL_CONTENT:
        text = response.headers.get("Content-Range", "").rpartition("/")[2]
    else:
        text = response.headers.get("Content-Length", "")
    return int(text) if text.isdecimal() else None


def _first(response: http.client.HTTPResponse) -> int | None:
    """The first byte's place in the whole file."""
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _check(url: str, part: _Part, sha256: str | None) -> None:
    with part.path.open("rb") as file:
        head = file.read(4096)
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest() if sha256 else ""
    wrong = ""
    if not looks_like(part.destination.name, head):
        wrong = f"{describe(head)} came in place of the file"
    elif sha256 and not digest.startswith(sha256.lower()):
        wrong = f"a file with SHA-256 {digest[: len(sha256)]} came in place of {sha256.lower()}"
    if wrong:
        part.discard()
        raise WeightsError(f"{url}: {wrong}: {_reach(part)}")


def _one_line(text: object) -> str:
    """Words of a server or of the system, fit for a message."""
    return "".join(c if c.isprintable() else " " for c in str(text))[:120].strip()
