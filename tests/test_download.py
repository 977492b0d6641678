from __future__ import annotations

import hashlib
import http.server
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from local_server import serving

from msg3d_lab.cli import main
from msg3d_lab.data.download import GUIDES, SOURCES, download_dataset
from msg3d_lab.download import fetch_file

NAME, FILE = "ntu60-3d", "ntu60_3d.pkl"


def pickle_like(size, seed=0):
    """Bytes that start and end as a pickle does; nothing in between ends it."""
    middle = random.Random(seed).randbytes(size - 2).replace(b".", b"-")
    return b"\x80" + middle + b"."


CONTENT = pickle_like(40_000)


@dataclass
class Site:
    """A file on a local server, and how the server is to misbehave."""

    content: bytes = CONTENT
    etag: str | None = '"one"'
    modified: str | None = None
    ranges: bool = True  # whether it knows Range
    knows_if_range: bool = True
    chunked: bool = False
    content_range: str | None = None  # instead of the true one
    statuses: list[int] = field(default_factory=list)  # of the next answers; then 200 or 206
    drops: list[int] = field(
        default_factory=list
    )  # bytes of the next answers before a cut; -1: none
    block: int = 4096
    pause: float = 0  # seconds between blocks
    seen: list[dict[str, str]] = field(default_factory=list)  # headers of the requests


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        site = self.server.sites.get(self.path)
        if site is None:
            self.answer(404, b"nothing here")
            return
        site.seen.append(dict(self.headers))
        status = site.statuses.pop(0) if site.statuses else 200
        if status != 200:
            self.answer(status, b"<html>no</html>")
            return
        start = self.start_of(site)
        size = len(site.content)
        body, headers = site.content[start:], {}
        if site.etag:
            headers["ETag"] = site.etag
        if site.modified:
            headers["Last-Modified"] = site.modified
        if start >= size > 0:
            headers["Content-Range"] = f"bytes */{size}"
            self.answer(416, b"", headers)
            return
        if start:
            end = start + len(body) - 1
            headers["Content-Range"] = site.content_range or f"bytes {start}-{end}/{size}"
            self.send_response(206)
        else:
            self.send_response(200)
        for item in headers.items():
            self.send_header(*item)
        if site.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = site.drops.pop(0) if site.drops else -1
        self.send_body(site, body if cut < 0 else body[:cut], whole=cut < 0)

    def start_of(self, site):
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        mark = self.headers.get("If-Range")
        fresh = not site.knows_if_range or mark in (None, site.etag, site.modified)
        return int(asked[1]) if asked and site.ranges and fresh else 0

    def send_body(self, site, body, *, whole):
        try:
            for i in range(0, len(body), site.block):
                block = body[i : i + site.block]
                if site.chunked:
                    block = b"%x\r\n%b\r\n" % (len(block), block)
                self.wfile.write(block)
                time.sleep(site.pause)
            if site.chunked and whole:
                self.wfile.write(b"0\r\n\r\n")
        except OSError:
            pass  # the client was killed
        if not whole:
            self.close_connection = True

    def answer(self, status, body, headers=()):
        self.send_response(status)
        for item in dict(headers).items():
            self.send_header(*item)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serving_sites():
    with serving(Handler) as server:
        server.sites = {}
        yield server


@pytest.fixture(scope="module")
def server():
    with serving_sites() as server:
        yield server


@pytest.fixture
def site(server):
    server.sites.clear()
    server.sites["/a"] = Site()
    return server.sites["/a"]


def fetch(addresses, folder, **options):
    """Download without waiting."""
    options = {"progress": False, "wait": 0} | options
    return fetch_file(Path(folder) / FILE, addresses, kind="pickle", **options)


@pytest.fixture
def get(server, tmp_path):
    """Download from the local server; `at` are the paths asked, in order."""

    def _get(*at, folder=tmp_path, **options):
        base = f"http://127.0.0.1:{server.server_port}"
        options = {"retries": 3, "timeout": 5} | options
        path = fetch([base + path for path in at or ["/a"]], folder, **options)
        assert recorded(path) == hashlib.sha256(path.read_bytes()).hexdigest()
        return path

    return _get


def recorded(path):
    return path.with_name(path.name + ".sha256").read_text().split()[0].lower()


def part_of(folder):
    path = folder / (FILE + ".part")
    return path.read_bytes() if path.exists() else None


def ranges(site):
    """Which byte each request started from."""
    return [int(h.get("Range", "bytes=0-")[6:-1]) for h in site.seen]


def begin(site, get, size, **options):
    """Leave a part of `size` bytes behind."""
    site.drops = [size]
    with pytest.raises(ConnectionError):
        get(retries=0, **options)


def test_a_download_with_its_checksum(site, get, tmp_path, capsys):
    path = get(folder=tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / FILE
    assert path.read_bytes() == CONTENT
    digest = hashlib.sha256(CONTENT).hexdigest()
    assert path.with_name(FILE + ".sha256").read_text() == f"{digest}  {FILE}\n"
    assert f"sha256 {digest} recorded" in capsys.readouterr().out
    assert {p.name for p in path.parent.iterdir()} == {FILE, FILE + ".sha256"}
    assert site.seen[0]["Accept-Encoding"] == "identity"


def test_a_dropped_connection_is_continued(site, get):
    site.drops = [10_000, 5_000, 0]
    assert get().read_bytes() == CONTENT
    assert ranges(site) == [0, 10_000, 15_000, 15_000]
    assert [h.get("If-Range") for h in site.seen] == [None, *['"one"'] * 3]


def test_the_next_call_continues(site, get, tmp_path):
    site.drops = [10_000, 2_000]
    message = r"keeps 12,000 bytes; the same command resumes the download"
    with pytest.raises(ConnectionError, match=message):
        get(retries=1)
    assert part_of(tmp_path) == CONTENT[:12_000]
    assert not (tmp_path / FILE).exists()
    assert get().read_bytes() == CONTENT
    assert ranges(site) == [0, 10_000, 12_000]


def test_progress_resets_the_count_of_failures(site, get):
    site.content = pickle_like(5 << 20)
    site.block = 1 << 20
    site.drops = [1 << 20] * 4
    assert get(retries=1).read_bytes() == site.content


def test_a_slow_server_is_not_a_lost_one_but_a_silent_one_is(site, get, tmp_path):
    site.block, site.pause = 10_000, 0.15
    assert get(timeout=0.5).read_bytes() == CONTENT
    site.pause = 0.6
    with pytest.raises(ConnectionError, match=r"timed out.*keeps 10,000 bytes"):
        get(folder=tmp_path / "b", timeout=0.3, retries=0)


@settings(max_examples=6)
@given(
    drops=st.lists(st.integers(0, 3_000), max_size=6),
    etag=st.sampled_from(['"one"', None]),
    supported=st.booleans(),
    chunked=st.booleans(),
    stops=st.integers(1, 7),
)
def test_any_drops_give_the_file(server, drops, etag, supported, chunked, stops):
    site = server.sites["/any"] = Site(
        pickle_like(3_000, len(drops)),
        etag,
        ranges=supported,
        chunked=chunked,
        drops=drops,
        block=700,
    )
    address = f"http://127.0.0.1:{server.server_port}/any"
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(8):  # several calls, each of which gives up after a few attempts
            try:
                path = fetch([address], folder, retries=stops - 1)
                break
            except ConnectionError:
                kept = part_of(Path(folder))
                assert kept is None or site.content.startswith(kept)
        assert path.read_bytes() == site.content
        assert {p.name for p in Path(folder).iterdir()} == {FILE, FILE + ".sha256"}


@settings(max_examples=6)
@given(
    steps=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2_500)), max_size=6),
    knows_if_range=st.booleans(),
    supported=st.booleans(),
)
def test_any_changes_at_the_source_give_one_version(server, steps, knows_if_range, supported):
    """Each call meets some version and is cut off; the last call is not."""
    versions = [pickle_like(2_000 + 100 * (i // 2), i) for i in range(3)]
    with tempfile.TemporaryDirectory() as folder:
        for version, cut in [*steps, (1, -1)]:
            server.sites["/any"] = Site(
                versions[version],
                f'"{version}"',
                ranges=supported,
                knows_if_range=knows_if_range,
                drops=[] if cut < 0 else [cut, cut],
                block=700,
            )
            address = f"http://127.0.0.1:{server.server_port}/any"
            try:
                path = fetch([address], folder, retries=1)
                break
            except ConnectionError:
                kept = part_of(Path(folder))
                assert kept is None or any(v.startswith(kept) for v in versions)
        assert path.read_bytes() == versions[version]
        assert recorded(path) == hashlib.sha256(versions[version]).hexdigest()


def test_a_server_without_ranges_starts_again(site, get, capsys):
    site.ranges = False
    site.drops = [10_000]
    assert get().read_bytes() == CONTENT
    assert ranges(site) == [0, 10_000]
    assert "does not continue what is there" in capsys.readouterr().out


def test_without_a_validator_nothing_is_continued(site, get, tmp_path, capsys):
    site.etag = None
    begin(site, get, 10_000)
    assert get().read_bytes() == CONTENT
    assert ranges(site) == [0, 0]
    assert "does not continue what is there" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("etag", "modified", "mark"),
    [
        ('"one"', "Mon, 01 Jan 2024 10:00:00 GMT", '"one"'),
        ('W/"one"', None, None),
        (None, "Mon, 01 Jan 2024 10:00:00 GMT", "Mon, 01 Jan 2024 10:00:00 GMT"),
        (None, None, None),
    ],
)
def test_only_strong_validators_are_asked_about(site, get, etag, modified, mark):
    site.etag, site.modified = etag, modified
    site.drops = [10_000]
    assert get().read_bytes() == CONTENT
    assert site.seen[1].get("If-Range") == mark
    assert ranges(site) == [0, 10_000 if mark else 0]


@pytest.mark.parametrize("knows_if_range", [True, False], ids=["200", "206 of another version"])
@pytest.mark.parametrize("size", [30_000, 40_000, 50_000])
def test_a_changed_file_is_never_spliced(site, get, tmp_path, knows_if_range, size):
    begin(site, get, 35_000)
    site.content, site.etag = pickle_like(size, 1), '"two"'
    site.knows_if_range = knows_if_range
    assert get().read_bytes() == site.content
    assert {p.name for p in tmp_path.iterdir()} == {FILE, FILE + ".sha256"}


@pytest.mark.parametrize(
    "wrong", ["bytes 9000-39999/40000", "bytes */40000", "octets 10000-39999/40000", " "]
)
def test_a_wrong_content_range_is_not_believed(site, get, wrong):
    begin(site, get, 10_000)
    site.content_range = wrong
    assert get().read_bytes() == CONTENT
    assert ranges(site)[-1] == 0


def test_416_means_whole_if_the_length_agrees(site, get, tmp_path):
    site.chunked = True
    begin(site, get, len(CONTENT))  # all bytes, but not the mark of their end
    assert len(part_of(tmp_path)) == len(CONTENT)
    assert get().read_bytes() == CONTENT
    assert ranges(site) == [0, len(CONTENT)]


def test_416_of_a_shorter_file_starts_again(site, get):
    begin(site, get, 35_000)
    site.content = pickle_like(20_000, 1)
    assert get().read_bytes() == site.content
    assert ranges(site) == [0, 35_000, 0]


@pytest.mark.parametrize("passing", [500, 503, 429, 408])
def test_errors_that_pass_are_waited_out(site, get, passing, capsys):
    site.statuses = [passing] * 2
    assert get().read_bytes() == CONTENT
    assert f"{passing}" in capsys.readouterr().out


def test_the_waits_double(site, get, monkeypatch):
    waits = []
    monkeypatch.setattr(time, "sleep", lambda s: waits.append(s) if s else None)
    site.statuses = [500] * 9
    with pytest.raises(ConnectionError, match=r"\(9 attempts\)"):
        get(retries=8, wait=1)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]


@pytest.mark.parametrize("status", [404, 410, 403])
def test_the_mirror_is_asked_when_the_first_address_has_no_file(site, server, get, status, capsys):
    site.statuses = [status]
    server.sites["/mirror"] = Site(pickle_like(30_000, 1))
    assert get("/a", "/mirror").read_bytes() == pickle_like(30_000, 1)
    assert len(site.seen) == 1
    said = capsys.readouterr().out
    assert re.search(rf"/a: {status} .*\. Trying http://127.0.0.1:\d+/mirror", said)


def test_the_mirror_is_asked_when_the_first_address_cannot_be_reached(site, server, tmp_path):
    with serving_sites() as other:
        dead = f"http://127.0.0.1:{other.server_port}/a"
    alive = f"http://127.0.0.1:{server.server_port}/a"
    with pytest.raises(
        ConnectionError, match=r"Connection refused \(2 attempts\); .*404 Not Found$"
    ):
        fetch([dead, alive + "?"], tmp_path, retries=1)
    assert list(tmp_path.iterdir()) == []
    assert fetch([dead, alive], tmp_path, retries=1).read_bytes() == CONTENT


def test_a_part_is_never_continued_from_another_address(site, server, get, tmp_path, capsys):
    begin(site, get, 10_000)
    mirror = server.sites["/mirror"] = Site(pickle_like(40_000, 1), site.etag)
    # Not reached for the moment: what is there is kept, the mirror is not asked.
    site.statuses = [500] * 4
    with pytest.raises(ConnectionError, match="keeps 10,000"):
        get("/a", "/mirror")
    assert (part_of(tmp_path), mirror.seen) == (CONTENT[:10_000], [])
    # Gone, and the mirror has it.
    site.statuses, mirror.drops = [404], [20_000]
    with pytest.raises(ConnectionError, match="keeps 20,000"):
        get("/a", "/mirror", retries=0)
    assert ranges(mirror) == [0]
    assert "does not continue what is there" in capsys.readouterr().out
    # A part of the mirror goes on from the mirror.
    site.seen.clear()
    assert get("/a", "/mirror").read_bytes() == mirror.content
    assert (ranges(mirror), site.seen) == ([0, 20_000], [])


def test_a_web_page_is_refused_and_costs_nothing(site, get, tmp_path):
    begin(site, get, 10_000)
    site.content, site.etag = b"<!DOCTYPE html><title>Log in to this network</title>", None
    with pytest.raises(ValueError, match=r"something else than a pickle.*DOCTYPE html"):
        get()
    assert part_of(tmp_path) == CONTENT[:10_000]
    site.content, site.etag = CONTENT, '"one"'
    assert get().read_bytes() == CONTENT
    assert ranges(site)[-1] == 10_000


def test_an_empty_answer_is_refused(site, get, tmp_path):
    site.content = b""
    with pytest.raises(ValueError, match="something else than a pickle"):
        get()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("origin", ["", "[]", "{}", '{"address": 1, "validator": null}', "\xff"])
def test_a_part_of_unknown_origin_starts_again(site, get, tmp_path, origin):
    begin(site, get, 10_000)
    (tmp_path / (FILE + ".part.json")).write_text(origin, encoding="latin-1")
    assert get().read_bytes() == CONTENT
    assert ranges(site) == [0, 0]


def test_a_part_without_an_origin_starts_again(site, get, tmp_path):
    (tmp_path / (FILE + ".part")).write_bytes(CONTENT[:500])
    assert get().read_bytes() == CONTENT
    assert ranges(site) == [0]


CHILD = """
import sys
from pathlib import Path
import msg3d_lab.data
from msg3d_lab.download import fetch_file
assert "httpx" not in sys.modules, "it takes long to import, and is needed for downloads only"
fetch_file(Path(sys.argv[1], "ntu60_3d.pkl"), [sys.argv[2]], kind="pickle", progress=False, wait=0)
"""


def child(server, folder, code=CHILD):
    address = f"http://127.0.0.1:{server.server_port}/a"
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder), address],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_part(folder, size, process):
    until = time.monotonic() + 60
    while len(part_of(folder) or b"") < size:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.005)


def test_kill_in_the_middle_then_continue(site, server, get, tmp_path):
    """And while the process lives, no other one downloads the same file."""
    site.content = pickle_like(2_000_000)
    site.pause = 0.004
    with child(server, tmp_path) as process:
        wait_for_part(tmp_path, 300_000, process)
        with pytest.raises(BlockingIOError, match="is in use by process"):
            get()
        process.kill()
    assert process.returncode == -signal.SIGKILL
    reached = len(part_of(tmp_path))
    assert 300_000 <= reached < len(site.content)
    assert site.content.startswith(part_of(tmp_path))
    site.pause = 0
    path = get()
    assert path.read_bytes() == site.content
    assert ranges(site) == [0, reached]


def test_a_full_disk_keeps_what_fits(site, server, get, tmp_path):
    resource = pytest.importorskip("resource", reason="limits the size of files on POSIX only")
    assert resource
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (25_000, 25_000))\n"
    with child(server, tmp_path, limited + CHILD) as process:
        said, _ = process.communicate()
    last = said.splitlines()[-1]
    assert last.startswith("OSError: [Errno 27] cannot write: File too large.")
    assert last.endswith("keeps 25,000 bytes; the same command resumes the download")
    assert part_of(tmp_path) == CONTENT[:25_000]
    assert get().read_bytes() == CONTENT
    assert ranges(site) == [0, 25_000]


def test_a_folder_that_cannot_be_written_to(site, get, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot write to .*: choose another folder"):
        get(folder=tmp_path / "file")
    if os.name == "posix" and os.geteuid():  # the root user may write anywhere
        (tmp_path / "locked").mkdir(mode=0o500)
        with pytest.raises(PermissionError, match="choose another folder"):
            get(folder=tmp_path / "locked")
    assert not site.seen


def test_a_file_that_is_there_is_checked_not_downloaded(site, get, capsys):
    path = get()
    site.seen.clear()
    assert get() == path
    assert not site.seen
    assert "there already, and its checksum matches" in capsys.readouterr().out
    path.write_bytes(CONTENT[:-2] + b"?.")
    with pytest.raises(ValueError, match=r"another checksum than .*\.sha256 .*Remove it and"):
        get()
    assert path.exists()


def test_a_file_without_a_checksum_gets_one(site, get, tmp_path, capsys):
    (tmp_path / FILE).write_bytes(CONTENT)
    get()
    assert not site.seen
    assert "is there already, without a checksum" in capsys.readouterr().out
    assert (tmp_path / (FILE + ".sha256")).exists()


@pytest.mark.parametrize("content", [b"", b"<html>", CONTENT[:-1], b"."])
def test_a_file_that_is_no_whole_pickle_gets_none(site, get, tmp_path, content):
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(ValueError, match="not a whole pickle: remove it"):
        get()
    assert not (tmp_path / (FILE + ".sha256")).exists()


def test_a_download_that_differs_from_the_record_is_put_aside(site, get, tmp_path):
    get().unlink()
    assert get().read_bytes() == CONTENT  # the same again is fine
    (tmp_path / FILE).unlink()
    site.content, site.etag = pickle_like(40_000, 1), '"two"'
    with pytest.raises(ValueError, match=r"another checksum than .* It is kept as") as error:
        get()
    digest = hashlib.sha256(site.content).hexdigest()
    aside = tmp_path / f"ntu60_3d.sha256-{digest[:8]}.pkl"
    assert aside.read_bytes() == site.content
    assert aside.name in str(error.value)
    assert {p.name for p in tmp_path.iterdir()} == {aside.name, FILE + ".sha256"}
    # What the message advises works.
    (tmp_path / (FILE + ".sha256")).unlink()
    aside.rename(tmp_path / FILE)
    assert get().read_bytes() == site.content


def test_records_of_others(site, get, tmp_path):
    record, digest = tmp_path / (FILE + ".sha256"), hashlib.sha256(CONTENT).hexdigest()
    record.write_text("no checksum")
    with pytest.raises(ValueError, match="does not start with a sha256"):
        get()
    assert not site.seen
    for text in (digest, f"{digest.upper()} *{FILE}\r\n"):
        record.write_text(text)
        assert get().read_bytes() == CONTENT
        assert record.read_text() == text.replace("\r", "")  # read with universal newlines


def test_progress_starts_where_the_part_ends(site, get, capsys):
    begin(site, get, 20_000)
    capsys.readouterr()
    get(progress=True)
    bars = capsys.readouterr().err.replace("\r", "\n")
    assert re.search(rf"^{FILE}:\s+50%.*20\.0k/40\.0k", bars, re.M)
    assert re.search(rf"^{FILE}:\s+100%.*40\.0k/40\.0k", bars, re.M)


def test_the_sources():
    base = "https://download.openmmlab.com/mmaction"
    assert {name: source.addresses for name, source in SOURCES.items()} == {
        f"{data}-{kind}": (
            f"{base}/v1.0/skeleton/data/{data}_{kind}.pkl",
            f"{base}/pyskl/data/nturgbd/{data}_{theirs}.pkl",
        )
        for data in ("ntu60", "ntu120")
        for kind, theirs in (("2d", "hrnet"), ("3d", "3danno"))
    } | {
        name: (f"{base}/pyskl/data/{name}/{name}_hrnet.pkl",)
        for name in ("gym", "ucf101", "hmdb51", "diving48", "k400")
    }


def test_guides():
    for name in ("ntu60-raw", "ntu120-raw"):
        assert "https://rose1.ntu.edu.sg/dataset/actionRecognition/" in GUIDES[name]
        assert f"--dataset {name[:-4]}" in GUIDES[name]
    assert GUIDES["ntu120-raw"].count("nturgbd_skeletons_s018_to_s032.zip") == 2
    assert "s018" not in GUIDES["ntu60-raw"]
    assert "all_sqe.zip" in GUIDES["nw-ucla"]
    assert "--dataset kinetics" in GUIDES["kinetics"]
    assert all(len(line) <= 120 for text in GUIDES.values() for line in text.splitlines())


@pytest.mark.parametrize("name", [NAME, "k400"])
def test_download_dataset_asks_the_addresses_of_its_source(
    name, site, server, tmp_path, monkeypatch, capsys
):
    address = f"http://127.0.0.1:{server.server_port}/a"
    known = {name: replace(SOURCES[name], addresses=(address,))}
    monkeypatch.setattr("msg3d_lab.data.download.SOURCES", known)
    path = download_dataset(name, folder=tmp_path / "data", progress=False)
    assert (path.name, path.read_bytes()) == (known[name].file, CONTENT)
    main(["data", "download", name, "--folder", str(tmp_path / "data")])
    shown = capsys.readouterr().out
    assert f"msg3d-lab data import {path} --dataset {known[name].dataset}" in shown
    assert ("put the kpfiles into" in shown) == (name == "k400")


def test_names_that_cannot_be_downloaded(tmp_path):
    with pytest.raises(ValueError, match=r"by hand(.|\n)*rose1\.ntu\.edu\.sg"):
        download_dataset("ntu60-raw", folder=tmp_path)
    with pytest.raises(ValueError, match=r"unknown data set 'ntu'.*ntu60-2d.*kinetics"):
        download_dataset("ntu", folder=tmp_path)
    assert list(tmp_path.iterdir()) == []
