"""Archives: the wanted members come out whole, and nothing that an archive holds gets anywhere else."""

import gzip
import io
import multiprocessing
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atrous.errors import WeightsError
from atrous.weights.zoo.archive import extract

FILES = {"net/model.ckpt.index": b"index" * 100, "net/model.ckpt.data-00000-of-00001": bytes(range(256)) * 300}
WANTED = ("*.index", "*.data-*")
FORK = multiprocessing.get_context("fork")


def tar(*members: tuple[tarfile.TarInfo, bytes], mode: str = "w:gz", form: int = tarfile.GNU_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode, format=form) as archive:  # type: ignore[call-overload]
        for member, content in members:
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def member(
    name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(content), kind, link
    return info, content


def tar_of(files: dict[str, bytes], mode: str = "w:gz", form: int = tarfile.GNU_FORMAT) -> bytes:
    return tar(*(member(name, content) for name, content in files.items()), mode=mode, form=form)


def zip_of(files: dict[str, bytes], mode: int = 0o100644, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr, info.compress_type = mode << 16, method
            archive.writestr(info, content)
    return file.getvalue()


def refusal(archive: bytes, folder: Path, limit: int = 1 << 20, patterns: tuple[str, ...] = WANTED) -> str:
    """The one line with which an archive is refused; nothing but the archive is then there."""
    (folder / "in").mkdir(exist_ok=True)
    path = folder / "in" / "archive"
    path.write_bytes(archive)
    with pytest.raises(WeightsError) as caught:
        extract(path, patterns, folder / "in" / "out", limit)
    everything = {entry.relative_to(folder).as_posix() for entry in folder.rglob("*")}
    assert everything <= {"in", "in/archive", "in/.out.lock"}
    assert str(caught.value).isprintable()
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "pack",
    [
        tar_of,
        lambda files: tar_of(files, "w"),
        lambda files: tar_of(files, form=tarfile.PAX_FORMAT),
        zip_of,
        lambda files: zip_of(files, mode=0),
        lambda files: zip_of(files, method=zipfile.ZIP_STORED),
    ],
    ids=["tar.gz", "tar", "pax", "zip", "zip of Windows", "stored zip"],
)
def test_only_the_wanted_members_come_out(pack: Callable[[dict[str, bytes]], bytes], tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    other = {"net/graph.pb": b"x" * 5000, "net/._model.ckpt.index.txt": b"", "n" * 90 + "/" + "n" * 120: b"long names"}
    archive.write_bytes(pack({**other, **FILES, "README": b"read me"}))
    directory = extract(archive, WANTED, tmp_path / "deep" / "out")
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == {
        name.removeprefix("net/"): content for name, content in FILES.items()
    }
    assert [path.name for path in directory.parent.iterdir() if not path.name.endswith(".lock")] == ["out"]
    assert stat.S_IMODE(directory.stat().st_mode) == stat.S_IMODE(directory.parent.stat().st_mode)


def test_a_directory_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert list(extract(tmp_path / "no such archive", WANTED, tmp_path / "out").iterdir()) == []


def test_what_a_killed_process_left_is_cleared(tmp_path: Path) -> None:
    (tmp_path / ".out.part").mkdir()
    (tmp_path / ".out.part" / "model.ckpt.index").write_bytes(b"half")
    (tmp_path / "archive").write_bytes(tar_of(FILES))
    directory = extract(tmp_path / "archive", WANTED, tmp_path / "out")
    assert (directory / "model.ckpt.index").read_bytes() == FILES["net/model.ckpt.index"]
    assert not (tmp_path / ".out.part").exists()


def test_two_processes_unpack_at_once(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(tar_of(FILES))
    children = [FORK.Process(target=extract, args=(tmp_path / "archive", WANTED, tmp_path / "out")) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(20)
        assert child.exitcode == 0
    assert len(list((tmp_path / "out").iterdir())) == 2


@pytest.mark.parametrize("pack", [tar_of, zip_of])
@pytest.mark.parametrize(
    "name",
    [
        "../model.index",
        "net/../../model.index",
        "/tmp/model.index",
        "..\\model.index",
        "C:\\model.index",
        "C:model.index",
    ],
)
def test_paths_that_lead_outside_are_refused(
    pack: Callable[[dict[str, bytes]], bytes], name: str, tmp_path: Path
) -> None:
    assert "lies outside of it" in refusal(pack({name: b"here", "model.data-0": b"there"}), tmp_path)


def test_a_member_that_nobody_asked_for_may_be_anything(tmp_path: Path) -> None:
    hostile = [member("../../evil", b"evil"), member("/evil", b"evil"), member("evil", kind=tarfile.CHRTYPE)]
    files = [member(name, content) for name, content in FILES.items()]
    (tmp_path / "archive").write_bytes(tar(*hostile, *files))
    assert len(list(extract(tmp_path / "archive", WANTED, tmp_path / "out").iterdir())) == 2


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE],
    ids=["symbolic link", "hard link", "character device", "block device", "fifo"],
)
def test_links_and_devices_are_refused(kind: bytes, tmp_path: Path) -> None:
    archive = tar(member("a.data-0", b"1"), member("model.index", kind=kind, link="/etc/passwd"))
    assert "is a link or device" in refusal(archive, tmp_path)


def test_links_in_a_zip_are_refused(tmp_path: Path) -> None:
    archive = zip_of({"model.index": b"/etc/passwd", "model.data-0": b"1"}, mode=stat.S_IFLNK | 0o777)
    assert "is a link or device" in refusal(archive, tmp_path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_come_twice_are_refused(tmp_path: Path) -> None:
    twice = [member("a/model.index", b"1"), member("b/model.index", b"2")]
    assert "two files of the name 'model.index'" in refusal(tar(*twice), tmp_path)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("model.index", b"1")
        archive.writestr("model.index", b"2")
    assert "two files of the name 'model.index'" in refusal(file.getvalue(), tmp_path)


@pytest.mark.parametrize("pack", [tar_of, zip_of])
def test_giants_are_refused(pack: Callable[[dict[str, bytes]], bytes], tmp_path: Path) -> None:
    giant = {"model.index": bytes(3_000_000), "model.data-0": b"1"}
    assert len(pack(giant)) < 10_000
    assert "more than 1048576" in refusal(pack(giant), tmp_path)
    several = {f"model.data-{index}": bytes(400_000) for index in range(3)} | {"model.index": b"1"}
    assert "are not taken" in refusal(pack(several), tmp_path)


def test_a_giant_that_is_not_wanted_is_not_unpacked_without_end(tmp_path: Path) -> None:
    archive = tar_of({"graph.pb": bytes(3_000_000), **FILES})
    assert "unpacks to more than 1048576 bytes" in refusal(archive, tmp_path)


def test_a_zip_that_understates_a_member_is_refused(tmp_path: Path) -> None:
    archive = zip_of({"model.index": bytes(900_000), "model.data-0": b"1"})
    lying = archive.replace((900_000).to_bytes(4, "little"), (90).to_bytes(4, "little"))
    assert lying != archive
    refusal(lying, tmp_path)


def test_a_giant_header_is_not_read(tmp_path: Path) -> None:
    """A long name of so many bytes would be read as a whole."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 3 << 30
    archive = gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(4096))
    assert "not an archive to trust" in refusal(archive, tmp_path, limit=4 << 30)


def test_members_that_lead_back_to_others_are_refused(tmp_path: Path) -> None:
    """A size below zero, as GNU's tar can write it, leads back to the member before."""
    before, back = tarfile.TarInfo("before"), tarfile.TarInfo("back")
    back.size = -1024
    archive = gzip.compress(before.tobuf(tarfile.GNU_FORMAT) * 2 + back.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    line = refusal(archive, tmp_path)
    assert "members overlap" in line or "delete it" in line  # Python's newer readers refuse the size itself


def test_more_members_than_anyone_packs_are_refused(tmp_path: Path) -> None:
    archive = gzip.compress(tarfile.TarInfo("empty").tobuf(tarfile.GNU_FORMAT) * 10_001)
    assert "more than 10000 members" in refusal(archive, tmp_path, limit=1 << 30)


@pytest.mark.parametrize("archive", [b"", b"<html>", bytes(4000), b"PK\x03\x04nothing", b"\x1f\x8bnothing", b"BZh9"])
def test_what_is_no_archive_is_refused(archive: bytes, tmp_path: Path) -> None:
    mend = "it holds no file" if archive == bytes(4000) else "delete it and fetch it again"  # zeros are an empty .tar
    assert mend in refusal(archive, tmp_path)


def test_a_zip_whose_directory_leads_to_before_its_beginning_is_refused(tmp_path: Path) -> None:
    archive = bytearray(zip_of(FILES))
    archive[-5] = 255
    assert "delete it and fetch it again" in refusal(bytes(archive), tmp_path)


def test_an_archive_without_what_is_wanted_says_so(tmp_path: Path) -> None:
    assert "it holds no file '*.data-*'" in refusal(tar_of({"model.index": b"1"}), tmp_path)
    with pytest.raises(WeightsError, match="absent: cannot be read"):
        extract(tmp_path / "absent", WANTED, tmp_path / "out")


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    archive = bytearray(zip_of({"model.index": b"1", "model.data-0": b"1"}))
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        archive[archive.index(signature) + flags] |= 1
    assert "encrypted" in refusal(bytes(archive), tmp_path)


ARCHIVES = {"tar.gz": tar_of(FILES), "tar": tar_of(FILES, "w"), "pax": tar_of(FILES, "w", tarfile.PAX_FORMAT)}
ARCHIVES |= {"zip": zip_of(FILES), "stored": zip_of(FILES, method=zipfile.ZIP_STORED)}


def unpacked(archive: bytes) -> dict[str, bytes] | None:
    """What was wanted, by its suffix; None if the archive is refused, in one line and leaving nothing."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "archive")
        path.write_bytes(archive)
        try:
            directory = extract(path, WANTED, path.with_name("out"), 1 << 20)
        except WeightsError as refused:
            line = str(refused)
        else:
            return {path.suffix: path.read_bytes() for path in directory.iterdir()}
        assert line.isprintable()
        assert line.startswith(str(path))
        assert {path.name for path in Path(folder).iterdir()} <= {"archive", ".out.lock"}
        return None


CONTENT = {Path(name).suffix: content for name, content in FILES.items()}


@pytest.mark.parametrize("kind", ["tar.gz", "tar", "zip", "stored"])
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_archives_that_lost_their_end_are_refused(kind: str, data: st.DataObject) -> None:
    whole = ARCHIVES[kind]
    blocks = sum((len(part) + 511) // 512 * 512 + 512 for part in FILES.values())
    end = blocks if kind == "tar" else len(whole)  # what follows are zeros, which a .tar can do without
    assert unpacked(whole[: data.draw(st.integers(0, end - 1), label="length")]) is None


@pytest.mark.parametrize("kind", [*ARCHIVES])
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_archives_with_changed_bytes_are_refused_or_give_what_was_packed(kind: str, data: st.DataObject) -> None:
    archive = bytearray(ARCHIVES[kind])
    interesting = st.integers(0, min(len(archive), 1536) - 1) | st.integers(-300, -1) | st.integers(0, len(archive) - 1)
    for place in data.draw(st.lists(interesting, min_size=1, max_size=4), label="places"):
        archive[place] = data.draw(st.integers(0, 255), label="byte")
    came = unpacked(bytes(archive))
    if kind in ("tar", "pax"):  # which have no checksum over the content
        assert came is None or {name: len(part) for name, part in came.items()} == {
            name: len(part) for name, part in CONTENT.items()
        }
    else:
        assert came is None or came == CONTENT
