"""Download files, with resume and a recorded checksum.

`FILE.part` holds the bytes so far, `FILE.part.json` the address they come from and the server's
mark of that version of the file. A download is resumed only from the same address and version
(Range with If-Range); otherwise it starts again, so two versions are never joined. `FILE.sha256`
holds the checksum of the first download, as `sha256sum` writes it: nobody publishes one for these
files. Later downloads are compared with it.

Source: RFC 9110: 8.8 (validators), 13.1.5 (If-Range), 14 (ranges), 15.5.17 (status 416).
"""

from __future__ import annotations

import json
import os
import re
import time
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from email.utils import parsedate_to_datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from msg3d_lab.checksums import checked_digest, digest, record_of, recorded_digest
from msg3d_lab.files import locked, write_aside

if TYPE_CHECKING:
    import httpx
    from tqdm import tqdm


Kind = Literal["pickle", "checkpoint"]
# Pickles since protocol 2; torch's checkpoints are zips, older ones pickles.
_STARTS: Mapping[Kind, tuple[bytes, ...]] = {"pickle": (b"\x80",), "checkpoint": (b"PK", b"\x80")}
_PICKLE_END = b"."  # the opcode STOP
_PROGRESS = 1 << 20  # bytes; an attempt that brings fewer new ones counts as failed
_LONGEST_WAIT = 60.0  # seconds
_TEMPORARY = (408, 425, 429)  # client errors after which another attempt may succeed


def fetch_file(
    target: Path,
    addresses: Sequence[str],
    *,
    kind: Kind,
    sha256_start: str = "",
    progress: bool = True,
    retries: int = 5,
    wait: float = 1.0,
    timeout: float = 30.0,
) -> Path:
    """Download a file, or resume its download; check the file if it is there already.

    An interrupted download is resumed by the same call. Retries, other addresses and checksums are
    reported on the screen.

    Args:
        target: the file; its folder is made if missing.
        addresses: where it is, best first. The next one is tried when one does not have the file
            or, as long as nothing came from it, cannot be reached.
        kind: what the file must look like: "pickle" or "checkpoint" (of torch).
        sha256_start: the first digits of the checksum, if they were published.
        progress: whether to show progress bars.
        retries: how many attempts in a row may bring less than a mebibyte each, after the first.
        wait: seconds before the first retry; doubled each time, up to a minute.
        timeout: seconds without a connection or a byte after which an attempt has failed.

    Returns:
        The file's path.

    Raises:
        ValueError: the server sends something of another kind; a checksum does not match.
        ConnectionError: no address gave the file; the message says what is kept.
        OSError: the folder cannot be written to, the disk is full, or another process downloads
            the same file.
    """
    expected = recorded_digest(target)  # an unreadable record is reported before the download
    if not target.exists():
        _make_folder(target.parent)
        with locked(target.with_name(f".{target.name}.lock")):
            if not target.exists():  # else another process has just finished
                part = _read_part(target.with_name(f"{target.name}.part"))
                try:
                    _fetch(
                        part,
                        addresses,
                        kind=kind,
                        retries=retries,
                        wait=wait,
                        timeout=timeout,
                        progress=progress,
                    )
                finally:
                    if not part.size:
                        part.remove()
                _finish(part, target, expected or sha256_start)
                return target
    _check(target, kind, sha256_start)
    return target


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        raise OSError(
            error.errno, f"cannot write to {folder} ({error.strerror}): choose another folder"
        ) from error


def _finish(part: _Part, target: Path, expected: str) -> None:
    """Rename a complete part, if its checksum starts as the recorded or published one."""
    found = digest(part.path)
    if not found.startswith(expected):
        aside = target.with_name(f"{target.stem}.sha256-{found[:8]}{target.suffix}")
        part.rename(aside)
        raise ValueError(
            f"the downloaded file has another checksum than {_origin(target)} (expected "
            f"{expected}, found {found}): the file changed at the source, or was damaged on its "
            f"way. It is kept as {aside}. If you want it, remove {record_of(target).name} and "
            f"rename it to {target.name}"
        )
    part.rename(target)
    if recorded_digest(target) is None:
        _write_record(target, found)
    else:
        _say(f"{target}: checksum matches")


def _origin(target: Path) -> str:
    """Where the expected checksum comes from."""
    record = record_of(target)
    return str(record) if record.exists() else "the one in its published name"


def _check(target: Path, kind: Kind, sha256_start: str) -> None:
    """Compare a file that is there already with its checksum, or record one."""
    found = checked_digest(target)
    if not found.startswith(sha256_start):
        raise ValueError(
            f"{target} is damaged or another file: its sha256 starts with {found[:8]}, that of the "
            f"published file with {sha256_start}. Remove it and download it again"
        )
    if recorded_digest(target) is not None:
        _say(f"{target} is there already, and its checksum matches")
    elif _is_whole(target, kind):
        _say(f"{target} is there already, without a checksum")
        _write_record(target, found)
    else:
        raise ValueError(f"{target} is not a whole {kind}: remove it and download it again")


def _write_record(target: Path, found: str) -> None:
    record = record_of(target)
    with write_aside(record) as aside:
        aside.write_text(f"{found}  {target.name}\n", encoding="utf-8", newline="\n")
    _say(f"{target}: sha256 {found} recorded in {record.name}")


def _is_whole(path: Path, kind: Kind) -> bool:
    """Whether a file starts and ends as its kind does."""
    with path.open("rb") as file:
        start = file.read(2)
        if not start.startswith(_STARTS[kind]):
            return False
        if start == b"PK":
            return zipfile.is_zipfile(file)
        file.seek(-1, os.SEEK_END)
        return file.read(1) == _PICKLE_END


def _say(text: str) -> None:
    """Print a line without breaking a progress bar."""
    from tqdm.auto import tqdm

    tqdm.write(text)


@dataclass
class _Part:
    """`FILE.part`, and where its bytes come from.

    Args:
        path: the file.
        address: where they come from.
        validator: the server's mark of that version, fit for If-Range.
        total: the length of the whole file.
    """

    path: Path
    address: str | None = None
    validator: str | None = None
    total: int | None = None

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def record(self) -> Path:
        return self.path.with_name(self.path.name + ".json")

    def begin(self, address: str, validator: str | None, total: int | None) -> None:
        """Forget everything. In this order a kill never leaves bytes beside another origin."""
        self.path.write_bytes(b"")
        self.address, self.validator, self.total = address, validator, total
        with write_aside(self.record, overwrite=True) as aside:
            origin = {"address": address, "validator": validator, "total": total}
            aside.write_text(json.dumps(origin) + "\n", encoding="utf-8")

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self.record.unlink(missing_ok=True)

    def rename(self, path: Path) -> None:
        self.path.replace(path)
        self.record.unlink(missing_ok=True)

    def describe(self) -> str:
        """What is kept, as the end of a message."""
        if not self.size:
            return ""
        total = f"{self.total:,}" if self.total else "an unknown number of"
        then = "resumes the download" if self.validator else "has to start again"
        return f". {self.path} keeps {self.size:,} of {total} bytes; the same command {then}"


def _read_part(path: Path) -> _Part:
    """Return the part that is there; without an origin if its record is missing or damaged."""
    part = _Part(path)
    try:
        record = json.loads(part.record.read_text(encoding="utf-8"))
        address, validator, total = (record[k] for k in ("address", "validator", "total"))
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return part
    texts = [address] if validator is None else [address, validator]
    fits = all(isinstance(t, str) and t.isascii() and t.isprintable() for t in texts)
    if fits and (total is None or (type(total) is int and total >= part.size)):
        part.address, part.validator, part.total = address, validator, total
    return part


class _AgainError(Exception):
    """The attempt failed; another one may succeed."""


class _RefusedError(Exception):
    """The address does not give the file; `gone`: the server says that there is none."""

    def __init__(self, reason: str, *, gone: bool = False) -> None:
        super().__init__(reason)
        self.gone = gone


def _fetch(
    part: _Part,
    addresses: Sequence[str],
    *,
    kind: Kind,
    retries: int,
    wait: float,
    timeout: float,
    progress: bool,
) -> None:
    """Complete the part; see `fetch_file` for the arguments."""
    import httpx
    from tqdm.auto import tqdm

    reasons: list[str] = []
    with (
        httpx.Client(follow_redirects=True, timeout=timeout) as client,
        tqdm(
            desc=part.path.stem,
            total=part.total,
            initial=part.size,
            unit="B",
            unit_scale=True,
            mininterval=0.5,
            disable=not progress,
        ) as bar,
    ):
        for address in sorted(addresses, key=lambda address: address != part.address):
            if reasons:
                _say(f"{reasons[-1]}. Trying {address}")
            try:
                return _fetch_from(address, part, client, bar, kind, retries=retries, wait=wait)
            except _RefusedError as error:
                reasons.append(f"{address}: {error}")
                if part.size and part.address == address and not error.gone:
                    break  # keep these bytes rather than start again from another address
    raise ConnectionError("; ".join(reasons) + part.describe())


def _fetch_from(
    address: str,
    part: _Part,
    client: httpx.Client,
    bar: tqdm,
    kind: Kind,
    *,
    retries: int,
    wait: float,
) -> None:
    """Make attempts until the part is complete, or too many in a row failed."""
    import httpx

    failures, best = 0, part.size if part.address == address else 0
    while True:
        try:
            if part.address == address and part.size == part.total:
                if _is_whole(part.path, kind):
                    return
                part.total = None
                raise _AgainError(f"{part.size:,} bytes were announced, but no {kind} ends there")
            _attempt(address, part, client, bar, kind)
            continue
        except (_AgainError, httpx.RequestError) as error:
            reason = str(error) or type(error).__name__
        if part.size >= best + _PROGRESS:
            failures, best = 0, part.size
        failures += 1
        if failures > retries:
            raise _RefusedError(f"{reason} ({failures} attempts)")
        pause = min(wait * 2 ** (failures - 1), _LONGEST_WAIT)
        _say(f"{address}: {reason}. Trying again in {pause:.0f} s ({failures} of {retries})")
        time.sleep(pause)


def _attempt(address: str, part: _Part, client: httpx.Client, bar: tqdm, kind: Kind) -> None:
    """Make one request, for the rest if there is a beginning, and append what comes."""
    headers = {"Accept-Encoding": "identity"}
    resumes = part.size > 0 and part.address == address and part.validator is not None
    if resumes:
        headers |= {"Range": f"bytes={part.size}-", "If-Range": str(part.validator)}
    with client.stream("GET", address, headers=headers) as answer:
        status, chunks = answer.status_code, answer.iter_raw()
        if 400 <= status < 500 and status not in _TEMPORARY and not (resumes and status == 416):
            raise _RefusedError(f"{status} {answer.reason_phrase}", gone=status in (404, 410))
        if status != 200 and not (resumes and status in (206, 416)):
            raise _AgainError(f"{status} {answer.reason_phrase}")
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise _RefusedError("it sends the file compressed, although asked not to")
        if status == 200:
            end, first = _length(answer.headers), next(chunks, b"")
            if not first.startswith(_STARTS[kind]):  # before anything is thrown away
                starts = " or ".join(map(repr, _STARTS[kind]))
                raise ValueError(
                    f"{address} answers with something else than a {kind}, which starts with "
                    f"{starts}; it starts with {first[:40]!r}. A page to log in? Open it in a "
                    "browser"
                )
            if part.size:
                _say(f"{address} does not continue what is there ({part.size:,} bytes): from 0")
            part.begin(address, _validator(answer.headers), end)
            bar.reset(total=end)
            chunks = chain([first], chunks)
        else:
            end = _end_of_rest(part, answer)
        _append(part, chunks, end, bar)
    if end is None:
        part.total = part.size
    elif part.size < end:
        raise _AgainError(f"only {part.size:,} of {end:,} bytes came")


def _append(part: _Part, chunks: Iterable[bytes], end: int | None, bar: tqdm) -> None:
    """Append what comes, up to a position in the file. What fits on the disk is kept."""
    size = part.size
    try:
        with part.path.open("ab") as file:
            for chunk in chunks:
                size += len(chunk)
                if end is not None and size > end:
                    raise _AgainError("more bytes came than were announced")
                file.write(chunk)
                bar.update(len(chunk))
    except OSError as error:
        message = f"cannot write: {error.strerror}{part.describe()}"
        raise OSError(error.errno, message) from error


def _length(headers: httpx.Headers) -> int | None:
    """How many bytes will come; None if they come in chunks, the last of which says so."""
    if "transfer-encoding" in headers:
        return None
    if "content-length" not in headers:
        raise _RefusedError("it does not tell how long the file is, so its end would prove nothing")
    return int(headers["content-length"])  # one number: httpx refuses others


def _validator(headers: httpx.Headers) -> str | None:
    """The mark of this version of the file, if it is fit for If-Range (RFC 9110, 8.8 and 13.1.5).

    A strong entity tag, or else the date of the last change if it lay a minute back: two changes
    within one second have the same date.
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


def _end_of_rest(part: _Part, answer: httpx.Response) -> int:
    """Check a 206, or the 416 of a complete file; return the position its bytes will end at."""
    text = answer.headers.get("content-range", "")
    match = re.fullmatch(r"bytes (?:(\d{1,18})-(\d{1,18})|\*)/(\d{1,18})", text, re.ASCII)
    kind = "etag" if str(part.validator).startswith('"') else "last-modified"
    same = answer.headers.get(kind) in (None, part.validator)
    if match and same and part.total in (None, int(match[3])):
        total = int(match[3])
        if answer.status_code == 416:
            start, end = total, total
        else:
            start, end = int(match[1] or -1), int(match[2] or -1) + 1
        if start == part.size and (start < end <= total or answer.status_code == 416):
            part.total = total
            return end
    part.validator = None  # so that the next attempt asks for everything
    raise _AgainError(f"the file changed, or the server continues it wrongly ({text!r})")
