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
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from msg3d_lab.checksums import checked_digest, digest, record_of, recorded_digest
from msg3d_lab.files import locked, write_json, write_text

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
    expected = recorded_digest(target) or sha256_start  # a damaged record is reported first
    if target.exists():
        _check(target, kind, sha256_start)
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(target.parent, os.W_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        message = f"cannot write to {target.parent} ({error.strerror}): choose another folder"
        raise OSError(error.errno, message) from error
    with locked(target.with_name(f".{target.name}.lock")):
        download = _Download(target.with_name(f"{target.name}.part"), kind, retries, wait)
        download.run(addresses, timeout=timeout, progress=progress)
        _finish(download, target, expected)
    return target


def _finish(download: _Download, target: Path, expected: str) -> None:
    """Rename a complete part, if its checksum starts as the recorded or published one."""
    found = digest(download.part)
    if not found.startswith(expected):
        aside = target.with_name(f"{target.stem}.sha256-{found[:8]}{target.suffix}")
        download.rename(aside)
        record = record_of(target)
        origin = record if record.exists() else "the one in its published name"
        raise ValueError(
            f"the downloaded file has another checksum than {origin} (expected {expected}, found "
            f"{found}): the file changed at the source, or was damaged on its way. It is kept as "
            f"{aside}. If you want it, remove {record.name} and rename it to {target.name}"
        )
    download.rename(target)
    if recorded_digest(target) is None:
        _write_record(target, found)
    else:
        _say(f"{target}: checksum matches")


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
    write_text(record, f"{found}  {target.name}\n", overwrite=False)
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


class _RefusedError(Exception):
    """The address does not give the file; `gone`: the server says that there is none."""

    def __init__(self, reason: str, *, gone: bool = False) -> None:
        super().__init__(reason)
        self.gone = gone


class _Download:
    """`FILE.part`, and where its bytes come from; see `fetch_file` for the arguments."""

    def __init__(self, part: Path, kind: Kind, retries: int, wait: float) -> None:
        self.part, self.kind, self.retries, self.wait = part, kind, retries, wait
        self.record = part.with_name(f"{part.name}.json")
        self.address = self.validator = ""
        try:
            origin = json.loads(self.record.read_text(encoding="utf-8"))
            self.address, self.validator = str(origin["address"]), str(origin["validator"])
        except (OSError, ValueError, TypeError, KeyError):
            pass  # without its origin a part starts again

    @property
    def size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def rename(self, path: Path) -> None:
        self.part.replace(path)
        self.record.unlink(missing_ok=True)

    def run(self, addresses: Sequence[str], *, timeout: float, progress: bool) -> None:
        """Complete the part."""
        import httpx
        from tqdm.auto import tqdm

        reasons: list[str] = []
        try:
            with (
                httpx.Client(follow_redirects=True, timeout=timeout) as client,
                tqdm(
                    desc=self.part.stem,
                    initial=self.size,
                    unit="B",
                    unit_scale=True,
                    mininterval=0.5,
                    disable=not progress,
                ) as bar,
            ):
                for address in sorted(addresses, key=lambda address: address != self.address):
                    if reasons:
                        _say(f"{reasons[-1]}. Trying {address}")
                    try:
                        return self._fetch_from(address, client, bar)
                    except _RefusedError as error:
                        reasons.append(f"{address}: {error}")
                        if self.size and self.address == address and not error.gone:
                            break  # keep these bytes rather than start again elsewhere
        except OSError as error:
            message = f"cannot write: {error.strerror}{self._kept()}"
            raise OSError(error.errno, message) from error
        raise ConnectionError("; ".join(reasons) + self._kept())

    def _kept(self) -> str:
        """What is kept, as the end of a message."""
        if not self.size:
            return ""
        then = "resumes the download" if self.validator else "has to start again"
        return f". {self.part} keeps {self.size:,} bytes; the same command {then}"

    def _fetch_from(self, address: str, client: httpx.Client, bar: tqdm) -> None:
        """Make attempts until the part is complete, or too many in a row failed."""
        import httpx

        failures = 0
        while True:
            before = self.size
            try:
                return self._attempt(address, client, bar)
            except httpx.HTTPStatusError as error:
                status = error.response.status_code
                reason = f"{status} {error.response.reason_phrase}"
                if status < 500 and status not in _TEMPORARY:
                    raise _RefusedError(reason, gone=status in (404, 410)) from error
            except httpx.RequestError as error:
                reason = str(error) or type(error).__name__
            failures = 1 if self.size >= before + _PROGRESS else failures + 1
            if failures > self.retries:
                raise _RefusedError(f"{reason} ({failures} attempts)")
            pause = min(self.wait * 2 ** (failures - 1), _LONGEST_WAIT)
            _say(
                f"{address}: {reason}. Trying again in {pause:.0f} s ({failures} of {self.retries})"
            )
            time.sleep(pause)

    def _attempt(self, address: str, client: httpx.Client, bar: tqdm) -> None:
        """Make one request, for the rest if there is a beginning, and append what comes."""
        import httpx

        start = self.size if self.validator and self.address == address else 0
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers |= {"Range": f"bytes={start}-", "If-Range": self.validator}
        with client.stream("GET", address, headers=headers) as answer:
            chunks = answer.iter_raw()
            if start and answer.status_code in (206, 416):
                found = answer.headers.get("content-range", "")
                rest = re.fullmatch(rf"bytes (?:{start}-\d+/(\d+)|\*/{start})", found)
                if not rest or self.validator not in self._marks(answer, default=self.validator):
                    self.validator = ""  # so that the next attempt asks for everything
                    raise httpx.RemoteProtocolError(
                        f"the file changed, or the server continues it wrongly ({found!r})"
                    )
                bar.total = end = int(rest[1] or start)
                bar.refresh()
                if answer.status_code == 416:
                    chunks = iter(())
            else:
                answer.raise_for_status()
                end, first = int(answer.headers.get("content-length", 0)), next(chunks, b"")
                self._begin(address, answer, first)
                bar.reset(total=end or None)
                chunks = chain([first], chunks)
            with self.part.open("ab") as file:
                for chunk in chunks:
                    file.write(chunk)
                    bar.update(len(chunk))
        if self.size < end:
            raise httpx.RemoteProtocolError(f"only {self.size:,} of {end:,} bytes came")
        if not _is_whole(self.part, self.kind):
            raise ValueError(f"{address} gave no whole {self.kind}: remove {self.part}, try again")

    def _begin(self, address: str, answer: httpx.Response, first: bytes) -> None:
        """Start the part again. In this order a kill never leaves bytes beside another origin."""
        if not first.startswith(_STARTS[self.kind]):  # before anything is thrown away
            starts = " or ".join(map(repr, _STARTS[self.kind]))
            raise ValueError(
                f"{address} answers with something else than a {self.kind}, which starts with "
                f"{starts}; it starts with {first[:40]!r}. A page to log in? Open it in a browser"
            )
        if self.size:
            _say(f"{address} does not continue what is there ({self.size:,} bytes): from 0")
        self.part.write_bytes(b"")
        self.address, self.validator = address, self._marks(answer, default="")[0]
        write_json(self.record, {"address": self.address, "validator": self.validator})

    @staticmethod
    def _marks(answer: httpx.Response, *, default: str) -> list[str]:
        """The server's marks of this version, fit for If-Range: a strong tag, or else a date."""
        tag, date = (answer.headers.get(name, "") for name in ("etag", "last-modified"))
        return [mark for mark in (tag if tag.startswith('"') else "", date) if mark] or [default]
