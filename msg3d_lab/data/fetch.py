"""A pickle over HTTP, in as many attempts as it takes.

A download goes on only from the same address and the same version of the file (Range with
If-Range); everything else starts again, so two versions are never spliced.

Source: RFC 9110: 8.6 (lengths), 8.8 (validators), 13.1.5 (If-Range), 14 (ranges), 15.5.17 (416).
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from datetime import timedelta
from email.utils import parsedate_to_datetime
from itertools import chain
from typing import TYPE_CHECKING

from msg3d_lab.data.formats.part import Part, progress_bar

if TYPE_CHECKING:
    import httpx
    from tqdm import tqdm

__all__ = ["PICKLE_END", "PICKLE_START", "fetch", "say"]

PICKLE_START, PICKLE_END = b"\x80", b"."  # since protocol 2; the opcode STOP
_HEADWAY = 1 << 20  # bytes; an attempt that brings fewer new ones counts as failed
_LONGEST_WAIT = 60.0  # seconds
_LATER = (408, 425, 429)  # the client errors that may pass


def say(text: str) -> None:
    """Print a line without tearing a progress bar."""
    from tqdm.auto import tqdm

    tqdm.write(text)


class _AgainError(Exception):
    """The attempt failed; another one may succeed."""


class _RefusedError(Exception):
    """The address does not give the file; `gone`: it says that there is none."""

    def __init__(self, reason: str, *, gone: bool = False) -> None:
        super().__init__(reason)
        self.gone = gone


def fetch(
    part: Part,
    addresses: Sequence[str],
    *,
    retries: int,
    wait: float,
    timeout: float,
    progress: bool,
) -> None:
    """Make the part whole; see `download.download` for the arguments.

    Raises:
        ConnectionError: no address gave the file.
        ValueError: something else than a pickle came.
        OSError: the disk is full.
    """
    import httpx

    reasons: list[str] = []
    title = part.path.name.removesuffix(".part")
    with (
        httpx.Client(follow_redirects=True, timeout=timeout) as client,
        progress_bar(title, total=part.total, done=part.size, show=progress) as bar,
    ):
        for address in sorted(addresses, key=lambda address: address != part.address):
            if reasons:
                say(f"{reasons[-1]}. Trying {address}")
            try:
                return _fetch_from(address, part, client, bar, retries=retries, wait=wait)
            except _RefusedError as error:
                reasons.append(f"{address}: {error}")
                if part.size and part.address == address and not error.gone:
                    break  # what is there is worth more than another address
    raise ConnectionError("; ".join(reasons) + part.kept)


def _fetch_from(
    address: str, part: Part, client: httpx.Client, bar: tqdm, *, retries: int, wait: float
) -> None:
    import httpx

    failures, best = 0, part.size if part.address == address else 0
    while True:
        try:
            if part.address == address and part.size == part.total:
                if part.last_byte() == PICKLE_END:
                    return
                part.total = None
                raise _AgainError(f"{part.size:,} bytes were announced, but no pickle ends there")
            _attempt(address, part, client, bar)
            continue
        except (_AgainError, httpx.RequestError) as error:
            reason = str(error) or type(error).__name__
        if part.size >= best + _HEADWAY:
            failures, best = 0, part.size
        failures += 1
        if failures > retries:
            raise _RefusedError(f"{reason} ({failures} attempts)")
        pause = min(wait * 2 ** (failures - 1), _LONGEST_WAIT)
        say(f"{address}: {reason}. Trying again in {pause:.0f} s ({failures} of {retries})")
        time.sleep(pause)


def _attempt(address: str, part: Part, client: httpx.Client, bar: tqdm) -> None:
    """Make one request, for the rest if there is a beginning, and take what comes."""
    headers = {"Accept-Encoding": "identity"}
    rest = part.size > 0 and part.address == address and part.validator is not None
    if rest:
        headers |= {"Range": f"bytes={part.size}-", "If-Range": str(part.validator)}
    with client.stream("GET", address, headers=headers) as answer:
        status, chunks, end = answer.status_code, answer.iter_raw(), None
        if 400 <= status < 500 and status not in _LATER and not (rest and status == 416):
            raise _RefusedError(f"{status} {answer.reason_phrase}", gone=status in (404, 410))
        if status != 200 and not (rest and status in (206, 416)):
            raise _AgainError(f"{status} {answer.reason_phrase}")
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise _RefusedError("it sends the file compressed, which it was asked not to")
        if status == 200:
            end, first = _length(answer.headers), next(chunks, b"")
            _check_start(address, first)  # before anything is thrown away
            if part.size:
                say(f"{_why_again(part, address, answer.headers)}: {address} starts again")
            part.begin(address, _validator(answer.headers), end)
            bar.reset(total=end)
            chunks = chain([first], chunks)
        else:
            end = _end_of_rest(part, answer)
            if status == 416:  # nothing is missing
                return
        for chunk in chunks:
            if end is not None and part.size + len(chunk) > end:
                raise _AgainError("more bytes came than were announced")
            part.append(chunk)
            bar.update(len(chunk))
    if end is None:
        part.total = part.size
    elif part.size < end:
        raise _AgainError(f"only {part.size:,} of {end:,} bytes came")


def _length(headers: httpx.Headers) -> int | None:
    """How many bytes will come; None if they come in chunks, the last of which says so."""
    if "transfer-encoding" in headers:
        return None
    if "content-length" not in headers:
        raise _RefusedError("it does not tell how long the file is, so its end would prove nothing")
    # What two header lines say may come as one, or the same twice (RFC 9110, 8.6).
    lengths = {length.strip() for length in headers["content-length"].split(",")}
    if len(lengths) != 1 or not re.fullmatch("[0-9]{1,18}", length := lengths.pop()):
        raise _RefusedError(
            f"expected a number of bytes as the file's length, found "
            f"{headers['content-length'][:40]!r}"
        )
    return int(length)


def _check_start(address: str, first: bytes) -> None:
    if not first.startswith(PICKLE_START):
        raise ValueError(
            f"{address} answers with something else than a pickle, which starts with 0x80; it "
            f"starts with {first[:40]!r}. A page to log in or to pay? Open it in a browser"
        )


def _validator(headers: httpx.Headers) -> str | None:
    """What marks this version of the file, if it is fit for If-Range (RFC 9110, 8.8 and 13.1.5).

    An entity tag that is not weak, or else the date of the last change if it lay a minute back: two
    changes within one second have the same date.
    """
    tag = headers.get("etag", "")
    if tag:
        return tag if tag.startswith('"') and tag.isascii() else None
    try:
        modified = parsedate_to_datetime(headers["last-modified"])
        old = parsedate_to_datetime(headers["date"]) - modified >= timedelta(minutes=1)
    except (KeyError, ValueError, TypeError):
        return None
    return headers["last-modified"] if old else None


def _same(part: Part, headers: httpx.Headers) -> bool:
    """Whether an answer's mark, if it has one, is that of the part."""
    kind = "etag" if str(part.validator).startswith('"') else "last-modified"
    return headers.get(kind) in (None, part.validator)


def _why_again(part: Part, address: str, headers: httpx.Headers) -> str:
    if part.address != address:
        return "What is there came from another address"
    if part.validator is None:
        return "Nothing tells whether what is there is of the same version"
    if _same(part, headers):
        return "The server sends whole files only"
    return "The file changed at the source"


def _end_of_rest(part: Part, answer: httpx.Response) -> int:
    """Check a 206, or the 416 of a file that is whole; the position its bytes will end at."""
    number = "([0-9]{1,18})"
    text = answer.headers.get("content-range", "")
    match = re.fullmatch(rf"bytes (?:{number}-{number}|\*)/{number}", text)
    if match and _same(part, answer.headers) and part.total in (None, int(match[3])):
        total = int(match[3])
        if answer.status_code == 416 and not match[1] and part.size == total:
            part.total = total
            return total
        if answer.status_code == 206 and match[1]:
            start, end = int(match[1]), int(match[2]) + 1
            if start == part.size < end <= total:
                part.total = total
                return end
    part.validator = None  # so that the next attempt asks for everything
    raise _AgainError(f"the file changed, or the server continues it wrongly ({text!r})")
