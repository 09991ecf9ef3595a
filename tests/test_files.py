"""Files that appear whole or not at all."""

from pathlib import Path

import pytest

from atrous.errors import AtrousError
from atrous.files import replacing


def test_what_was_written_takes_the_name(tmp_path: Path) -> None:
    target = tmp_path / "new" / "report.html"
    with replacing(target) as unfinished:
        unfinished.write_text("whole")
        assert unfinished.parent == target.parent
        assert unfinished.suffix == ".html"
        assert not target.exists()
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


def test_a_failed_block_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    target.write_text("old")

    def fail() -> None:
        with replacing(target) as unfinished:
            unfinished.write_text("half")
            raise KeyError("stop")

    with pytest.raises(KeyError, match="stop"):
        fail()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(AtrousError, match=r"file/report\.html: cannot be written: "),
        replacing(tmp_path / "file" / "report.html") as unfinished,
    ):
        unfinished.write_text("never")
