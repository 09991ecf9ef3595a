"""The downloader against a real server that cuts, lies, changes its mind and sends something else."""

import hashlib
import multiprocessing
import os
import re
import signal
import stat
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atrous.errors import WeightsError
from atrous.weights.zoo.cache import cache_directory, offline
from atrous.weights.zoo.download import _Redirects, download
from http_server import Server, running_server

BODY = bytes(range(256)) * 2000
SHA256 = hashlib.sha256(BODY).hexdigest()
FORK = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atrous.weights.zoo.download._DELAYS", (0.0, 0.0, 0.0))
    for name in ("ATROUS_OFFLINE", "ATROUS_HOME", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def listening() -> Iterator[Server]:
    with running_server() as server:
        yield server


@pytest.fixture
def server(listening: Server) -> Server:
    listening.files.clear()
    listening.asked.clear()
    listening.sent = 0
    return listening


def refusal(url: str, destination: Path, **options: object) -> str:
    """The one line with which a download is refused; nothing is then at its destination."""
    with pytest.raises(WeightsError) as caught:
        download(url, destination, **options)  # type: ignore[arg-type]
    assert not destination.exists()
    assert str(caught.value).isprintable()  # and so in one line
    return str(caught.value)


def left_in(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir() if not path.name.endswith(".lock")}


def test_a_file_comes_whole_with_its_progress_and_is_asked_for_once(server: Server, tmp_path: Path) -> None:
    url, _ = server.give("/model.tflite.raw", BODY)
    seen: list[tuple[int, int | None]] = []
    path = download(
        url, tmp_path / "deep" / "m", sha256=SHA256, size=len(BODY), progress=lambda *state: seen.append(state)
    )
    assert path.read_bytes() == BODY
    assert left_in(path.parent) == {"m"}
    done = [state[0] for state in seen]
    assert done[0] == 0
    assert done[-1] == len(BODY)
    assert done == sorted(done)
    assert {state[1] for state in seen} == {len(BODY)}
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~current_umask()
    assert download(url, path, sha256=SHA256, size=len(BODY)) == path
    assert len(server.asked) == 1


def current_umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


@given(cuts=st.lists(st.integers(0, len(BODY)), max_size=3), reset=st.booleans())
@settings(max_examples=25, deadline=None)
def test_cut_connections_are_continued_where_they_broke(listening: Server, cuts: list[int], reset: bool) -> None:
    listening.asked.clear()
    url, _ = listening.give("/cut", BODY, cuts=[*cuts], reset=reset)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("atrous.weights.zoo.download._DELAYS", (0.0, 0.0, 0.0))
        path = download(url, Path(folder) / "m", sha256=SHA256)
        assert path.read_bytes() == BODY
    starts = [int(asked[6:-1]) if asked else 0 for _, asked in listening.asked]
    assert starts == sorted(starts)
    if not reset:  # a reset throws away what was on its way
        places = [0]
        for cut in cuts:
            places.append(min(places[-1] + cut, len(BODY)))
        assert starts == [place for place in places if place < len(BODY)]


def test_a_cut_chunked_answer_is_continued(server: Server, tmp_path: Path) -> None:
    url, _ = server.give("/chunked", BODY, chunked=True, cuts=[70_000])
    assert download(url, tmp_path / "m", size=len(BODY)).read_bytes() == BODY
    assert server.asked == [("/chunked", None), ("/chunked", "bytes=70000-")]


def test_attempts_are_few_and_what_came_is_kept_for_the_next_run(server: Server, tmp_path: Path) -> None:
    url, _ = server.give("/cut", BODY, cuts=[1000] * 4)
    line = refusal(url, tmp_path / "m", sha256=SHA256)
    assert "cut after 4000 of 512000 bytes" in line
    assert "4 attempts" in line
    assert "run again" in line
    assert len(server.asked) == 4
    seen: list[int] = []
    download(url, tmp_path / "m", sha256=SHA256, progress=lambda done, _: seen.append(done))
    assert server.asked[-1] == ("/cut", "bytes=4000-")
    assert seen[0] == 4000
    assert server.sent == len(BODY)
    assert left_in(tmp_path) == {"m"}


def test_the_backoff_grows(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.undo()
    monkeypatch.setattr("time.sleep", slept.append)
    url, _ = server.give("/busy", BODY, status=503)
    refusal(url, tmp_path / "m")
    assert slept == [0.5, 1.0, 2.0]


def test_a_server_without_ranges_begins_anew(server: Server, tmp_path: Path) -> None:
    url, _ = server.give("/m", BODY, ranges=False, cuts=[1000])
    seen: list[int] = []
    path = download(url, tmp_path / "m", sha256=SHA256, progress=lambda done, _: seen.append(done))
    assert path.read_bytes() == BODY
    assert seen.count(0) == 2  # the progress goes back


@pytest.mark.parametrize("etag", [None, 'W/"1"'])
def test_without_a_strong_validator_nothing_is_continued(server: Server, tmp_path: Path, etag: str | None) -> None:
    """Two such answers may be of different files (RFC 9110, 13.1.5)."""
    url, _ = server.give("/m", BODY, etag=etag, cuts=[1000])
    assert download(url, tmp_path / "m").read_bytes() == BODY
    assert server.asked == [("/m", None), ("/m", None)]


def test_a_date_is_validator_enough(server: Server, tmp_path: Path) -> None:
    date = {"Last-Modified": "Sat, 21 Nov 2026 10:00:00 GMT"}
    url, _ = server.give("/m", BODY, etag=None, headers=date, cuts=[1000], if_range=False)
    assert download(url, tmp_path / "m").read_bytes() == BODY
    assert server.asked[-1] == ("/m", "bytes=1000-")


@pytest.mark.parametrize("if_range", [True, False])
def test_a_file_that_changed_meanwhile_begins_anew(server: Server, tmp_path: Path, if_range: bool) -> None:
    """Also where the server continues the new file after the old one's beginning, whatever If-Range says."""
    url, served = server.give("/m", BODY, cuts=[1000] * 4, if_range=if_range)
    refusal(url, tmp_path / "m")
    served.body, served.etag = BODY[::-1], '"2"'
    assert download(url, tmp_path / "m").read_bytes() == BODY[::-1]
    assert len(server.asked) == (5 if if_range else 6)


def test_a_part_of_another_address_or_without_its_note_is_not_continued(server: Server, tmp_path: Path) -> None:
    url, _ = server.give("/old", BODY, cuts=[1000] * 4)
    refusal(url, tmp_path / "m")
    other, _ = server.give("/new", BODY[::-1])
    assert download(other, tmp_path / "m").read_bytes() == BODY[::-1]
    (tmp_path / "n.part").write_bytes(b"whatever")
    (tmp_path / "n.part.json").write_text('{"url": ')
    assert download(other, tmp_path / "n").read_bytes() == BODY[::-1]
    assert server.asked[-1] == ("/new", None)


def test_a_part_longer_than_the_file_has_become_begins_anew(server: Server, tmp_path: Path) -> None:
    url, served = server.give("/m", BODY, cuts=[5000] * 4, length=None)
    refusal(url, tmp_path / "m", size=len(BODY))
    served.body, served.length = BODY[:3000], -1
    assert download(url, tmp_path / "m").read_bytes() == BODY[:3000]


def test_a_wrong_size_is_refused_before_it_comes(server: Server, tmp_path: Path) -> None:
    url, _ = server.give("/m", BODY)
    line = refusal(url, tmp_path / "m", size=len(BODY) + 1)
    assert "512000 bytes are offered where 512001 belong" in line
    assert server.asked == [("/m", None)]
    assert left_in(tmp_path) == set()


@pytest.mark.parametrize(("sent", "words"), [(600_000, "more than the 512000 bytes"), (400_000, "cut after 400000 of")])
def test_without_an_announced_length_the_known_size_counts(
    server: Server, tmp_path: Path, sent: int, words: str
) -> None:
    url, _ = server.give("/m", (BODY * 2)[:sent], length=None, ranges=False)
    assert words in refusal(url, tmp_path / "m", size=len(BODY))


@pytest.mark.parametrize("sha256", [SHA256, SHA256[:8], SHA256.upper()])
def test_the_hash_or_its_beginning_is_checked(server: Server, tmp_path: Path, sha256: str) -> None:
    good, _ = server.give("/good", BODY)
    bad, _ = server.give("/bad", BODY[:-1] + b"!")
    assert download(good, tmp_path / "good", sha256=sha256).is_file()
    line = refusal(bad, tmp_path / "bad", sha256=sha256)
    assert f"in place of {sha256.lower()}" in line
    assert str(tmp_path / "bad") in line
    assert left_in(tmp_path) == {"good"}


@pytest.mark.parametrize("sha256", ["350af47", "not hexadecimal", SHA256 + "0"])
def test_a_hash_that_is_none_is_refused(server: Server, tmp_path: Path, sha256: str) -> None:
    assert "8 to 64 hexadecimal digits" in refusal(server.address, tmp_path / "m", sha256=sha256)


PAGE = b"\n<!DOCTYPE html><html><head><title>\n Access  denied </title></head>" + b"<p>Your company says no.</p>" * 99


@pytest.mark.parametrize(
    ("name", "body", "content_type", "words"),
    [
        ("m.pth", PAGE, "text/html; charset=utf-8", 'a web page titled "Access denied"'),
        ("m.pth", PAGE, "application/octet-stream", 'a web page titled "Access denied"'),
        ("m.json", PAGE, "application/json", "a web page"),
        ("m.raw", b"<HTML>no", "text/plain", "a web page"),
        ("m.pth", b'{"message": "Not Found"}', "application/json", 'begins with "{"message": "Not Found"}"'),
        ("m.tar.gz", BODY, "application/gzip", "a file of another kind"),
        ("m.zip", b"PK\x05\x06" + bytes(18), "application/zip", "a file of another kind"),
        ("m.tflite", b"version https://git-lfs.github.com/spec/v1\noid", "text/plain", 'begins with "version https'),
        ("m.safetensors", b"Moved.", "text/plain", 'begins with "Moved."'),
        ("m.pth", b"", "application/octet-stream", "an empty file"),
    ],
)
def test_what_is_not_the_file_never_enters(
    server: Server, tmp_path: Path, name: str, body: bytes, content_type: str, words: str
) -> None:
    url, _ = server.give("/m", body, content_type=content_type)
    line = refusal(url, tmp_path / name)
    assert words in line
    assert str(tmp_path / name) in line
    assert left_in(tmp_path) == set()


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("m.pth", b"PK\x03\x04..."),
        ("m.pth", b"\x80\x02\x8a\nl\xfc\x9c"),
        ("pytorch_model.bin", b"PK\x03\x04"),
        ("m.tflite", b"\x20\0\0\0TFL3"),
        ("m.safetensors", (2).to_bytes(8, "little") + b"{}"),
        ("m.tar.gz", b"\x1f\x8b\x08"),
        ("m.tar.gz", bytes(257) + b"ustar"),
        ("config.json", b"{}"),
    ],
)
def test_the_kinds_of_files_of_the_zoo_enter(server: Server, tmp_path: Path, name: str, body: bytes) -> None:
    url, _ = server.give("/m", body)
    assert download(url, tmp_path / name).read_bytes() == body


@pytest.mark.parametrize(
    ("body", "content_type", "words"),
    [
        (PAGE, "text/html", "a web page"),
        (b'{"message": "log in"}', "application/json", "21 bytes are offered where 512000"),
    ],
)
def test_an_answer_of_the_network_in_the_middle_leaves_what_had_come(
    server: Server, tmp_path: Path, body: bytes, content_type: str, words: str
) -> None:
    """It asks for a login in between; after that the file goes on."""
    url, served = server.give("/m", BODY, cuts=[1000] * 4)
    refusal(url, tmp_path / "m", size=len(BODY))
    server.give("/m", body, content_type=content_type, ranges=False)
    assert words in refusal(url, tmp_path / "m", size=len(BODY))
    server.files["/m"] = served
    assert download(url, tmp_path / "m", sha256=SHA256).is_file()
    assert server.asked[-1] == ("/m", "bytes=4000-")


@pytest.mark.parametrize(("status", "requests"), [(404, 1), (403, 1), (401, 1), (410, 1), (500, 4), (503, 4), (429, 4)])
def test_an_error_is_one_line_with_the_mend(server: Server, tmp_path: Path, status: int, requests: int) -> None:
    url, _ = server.give("/m", status=status)
    line = refusal(url, tmp_path / "m.pth")
    assert url in line
    assert f"the server answers {status}" in line
    assert str(tmp_path / "m.pth") in line
    assert "by other means" in line
    assert len(server.asked) == requests


def test_a_passing_error_is_passed(server: Server, tmp_path: Path) -> None:
    url, _ = server.give("/m", BODY, failures=[503, 502, 429])
    assert download(url, tmp_path / "m").read_bytes() == BODY


def test_nobody_listens(tmp_path: Path) -> None:
    line = refusal("http://127.0.0.1:9/m", tmp_path / "m")
    assert "Connection refused" in line
    assert "run again, or put the file there by other means" in line


def test_a_silent_server_is_left_in_time(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atrous.weights.zoo.download._TIMEOUT", 0.05)
    url, served = server.give("/m", BODY, hold_after=1000)
    began = time.monotonic()
    assert "timed out" in refusal(url, tmp_path / "m")
    assert time.monotonic() - began < 10
    served.hold_after = None
    assert download(url, tmp_path / "m").read_bytes() == BODY
    assert server.asked[-1] == ("/m", "bytes=1000-")


def test_redirects_are_followed_with_the_range(server: Server, tmp_path: Path) -> None:
    server.give("/there", BODY, cuts=[1000])
    url, _ = server.give("/here", status=302, headers={"Location": "/there"})
    assert download(url, tmp_path / "m", sha256=SHA256).is_file()
    assert [path for path, _ in server.asked] == ["/here", "/there"] * 2
    assert server.asked[-1] == ("/there", "bytes=1000-")


@pytest.mark.parametrize(
    ("place", "words"),
    [("/here", "answers 302"), ("file:///etc/hostname", "answers 302"), ("ftp://127.0.0.1/m", "is not http")],
)
def test_redirects_in_a_circle_or_off_the_web_end(server: Server, tmp_path: Path, place: str, words: str) -> None:
    url, _ = server.give("/here", status=302, headers={"Location": place})
    assert words in refusal(url, tmp_path / "m")


def test_a_redirect_never_leaves_https() -> None:
    request = urllib.request.Request("https://one.example/m")
    for place in ("http://two.example/m", "ftp://two.example/m"):
        with pytest.raises(WeightsError, match="which is not https"):
            _Redirects().redirect_request(request, None, 302, "Found", None, place)  # type: ignore[arg-type]


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/m", "model.pth", "https://", ""])
def test_only_the_web_is_fetched_from(tmp_path: Path, url: str) -> None:
    assert "only http:// and https://" in refusal(url, tmp_path / "m")


def test_an_interrupted_transfer_is_continued(server: Server, tmp_path: Path) -> None:
    url, _ = server.give("/m", BODY)

    def interrupt(done: int, total: int | None) -> None:
        if total and done > total / 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(url, tmp_path / "m", progress=interrupt)
    kept = (tmp_path / "m.part").stat().st_size
    assert kept > len(BODY) / 3
    assert not (tmp_path / "m").exists()
    assert download(url, tmp_path / "m", sha256=SHA256).read_bytes() == BODY
    assert kept == len(BODY) or server.asked[-1] == ("/m", f"bytes={kept}-")


def fetch_in_a_child(url: str, path: Path, began: "threading.Event", result: "object") -> None:
    began.set()
    result.put(download(url, path, sha256=SHA256).read_bytes() == BODY)  # type: ignore[attr-defined]


def test_of_two_processes_one_fetches_and_both_have_it(server: Server, tmp_path: Path) -> None:
    url, served = server.give("/m", BODY, hold_after=1000)
    result = FORK.Queue()
    children = []
    for _ in range(2):
        began = FORK.Event()
        child = FORK.Process(target=fetch_in_a_child, args=(url, tmp_path / "m", began, result))
        child.start()
        children.append(child)
        assert began.wait(20)
        assert served.arrived.wait(20)  # the first is in the middle of it before the second begins
    time.sleep(0.1)
    served.release.set()
    assert [result.get(timeout=20) for _ in children] == [True, True]
    for child in children:
        child.join()
    assert server.asked == [("/m", None)]
    assert left_in(tmp_path) == {"m"}


def test_a_killed_process_leaves_a_lock_that_holds_nobody_and_a_part_that_is_continued(
    server: Server, tmp_path: Path
) -> None:
    url, served = server.give("/m", BODY, hold_after=300_000)
    child = FORK.Process(target=fetch_in_a_child, args=(url, tmp_path / "m", FORK.Event(), FORK.Queue()))
    child.start()
    part = tmp_path / "m.part"
    deadline = time.monotonic() + 20
    while not (part.exists() and part.stat().st_size > 200_000):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    served.hold_after = None
    kept = part.stat().st_size
    assert (tmp_path / ".m.lock").exists()
    assert download(url, tmp_path / "m", sha256=SHA256).read_bytes() == BODY
    assert server.asked == [("/m", None), ("/m", f"bytes={kept}-")]


def test_a_process_killed_between_the_last_byte_and_the_name_costs_no_second_transfer(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, _ = server.give("/m", BODY)
    monkeypatch.setattr("atrous.weights.zoo.download._check", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        download(url, tmp_path / "m")
    monkeypatch.undo()
    assert download(url, tmp_path / "m", sha256=SHA256).read_bytes() == BODY
    assert len(server.asked) == 1


def test_a_directory_that_cannot_be_is_named_with_the_mend(server: Server, tmp_path: Path) -> None:
    """A file lies where the directory should be, which no one can write into, root neither."""
    url, _ = server.give("/m", BODY)
    (tmp_path / "models").write_text("in the way")
    line = refusal(url, tmp_path / "models" / "m")
    assert "set ATROUS_HOME to a directory that can be" in line
    assert server.asked == []


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A directory with one file, which this process can read and not write; root becomes nobody for the while."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        (path / "here").write_bytes(BODY)
        root = os.geteuid() == 0
        path.chmod(0o555)
        if root:
            os.seteuid(65534)
        try:
            yield path
        finally:
            if root:
                os.seteuid(0)
            path.chmod(0o755)


def test_a_read_only_cache_is_read_and_named_when_it_would_be_written(server: Server, read_only: Path) -> None:
    url, _ = server.give("/m", BODY)
    assert download(url, read_only / "here", sha256=SHA256, size=len(BODY)).read_bytes() == BODY
    for place in (read_only / "absent", read_only / "new" / "absent"):
        line = refusal(url, place)
        assert "Permission denied" in line
        assert "set ATROUS_HOME" in line
    assert server.asked == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_named_and_what_came_may_stay(server: Server, tmp_path: Path) -> None:
    url, _ = server.give("/m", BODY)
    (tmp_path / "m.part").symlink_to("/dev/full")
    line = refusal(url, tmp_path / "m")
    assert "the disk is full" in line
    assert "ATROUS_HOME" in line
    (tmp_path / "m.part").unlink()
    assert download(url, tmp_path / "m", sha256=SHA256).read_bytes() == BODY


def test_offline_uses_what_is_there_and_asks_nobody(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, _ = server.give("/m", BODY)
    monkeypatch.setenv("ATROUS_OFFLINE", "1")
    line = refusal(url, tmp_path / "m")
    assert "ATROUS_OFFLINE" in line
    assert url in line
    assert str(tmp_path / "m") in line
    (tmp_path / "m").write_bytes(BODY)
    assert download(url, tmp_path / "m", size=len(BODY)).read_bytes() == BODY
    assert server.asked == []


def test_a_cached_file_of_another_size_is_fetched_again(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, _ = server.give("/m", BODY)
    (tmp_path / "m").write_bytes(BODY[:-1])
    monkeypatch.setenv("ATROUS_OFFLINE", "1")
    with pytest.raises(WeightsError, match=re.escape("511999 bytes long, not 512000")):
        download(url, tmp_path / "m", size=len(BODY))
    monkeypatch.delenv("ATROUS_OFFLINE")
    assert download(url, tmp_path / "m", size=len(BODY)).read_bytes() == BODY


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, False), ("", False), ("0", False), ("false", False), ("1", True), ("true", True), ("True", True)],
)
def test_what_offline_means(monkeypatch: pytest.MonkeyPatch, value: str | None, expected: bool) -> None:
    if value is not None:
        monkeypatch.setenv("ATROUS_OFFLINE", value)
    assert offline() is expected


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ATROUS_HOME", str(tmp_path))
    assert cache_directory() == tmp_path / "models"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ATROUS_HOME", "~/mine")
    assert cache_directory() == tmp_path / "mine" / "models"
    monkeypatch.setenv("ATROUS_HOME", "")
    assert "atrous" in cache_directory().parts
    assert cache_directory().name == "models"
