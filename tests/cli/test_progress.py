"""The bar: on a terminal's stderr and nowhere else, with a count, a rate and the time left."""

import io
import re
import time
from collections.abc import Callable

import pytest

from atrous.cli.progress import report


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch) -> Callable[[], Terminal]:
    """Makes stderr a terminal. To be called in the test: between its phases pytest puts its own stderr back."""

    def make() -> Terminal:
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "120")
        stderr = Terminal()
        monkeypatch.setattr("sys.stderr", stderr)
        return stderr

    return make


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


def test_the_bar_counts_whole_photos_and_tells_rate_and_time_left(terminal) -> None:
    stderr = terminal()
    with report(4) as lines:
        lines.begin("predicting")
        for share in (0.1,) * 10 + (1.0, 1.0):
            time.sleep(0.01)
            lines.advance(share)
    shown = _plain(stderr.getvalue())
    assert "predicting" in shown
    assert "3/4 photos" in shown
    assert re.search(r"\d\.\d s/photo|\d\.\d photos/s", shown)
    assert re.search(r"\d:\d\d:\d\d", shown)


def test_lines_for_stdout_stay_there_when_it_is_no_terminal(terminal, capsys) -> None:
    stderr = terminal()
    with report(1) as lines:
        lines.line("{}")
        lines.line("atrous: broken", err=True)
    assert capsys.readouterr().out == "{}\n"
    assert "{}" not in stderr.getvalue()
    assert "atrous: broken" in _plain(stderr.getvalue())


def test_brackets_in_a_name_are_not_taken_for_markup(terminal) -> None:
    stderr = terminal()
    with report(1) as lines:
        lines.line("atrous: photo[bold].jpg: is empty", err=True)
    assert "photo[bold].jpg" in _plain(stderr.getvalue())


def test_without_a_terminal_there_are_lines_alone(capsys) -> None:
    with report(2) as lines:
        lines.begin("loading")
        lines.advance(1.0)
        lines.line("a.jpg  3×4")
        lines.line("atrous: b.jpg: is empty", err=True)
    assert capsys.readouterr() == ("a.jpg  3×4\n", "atrous: b.jpg: is empty\n")


def test_a_name_that_is_no_text_is_still_a_line(capsys) -> None:
    with report(1) as lines:
        lines.line("bad\udcff.jpg")
    assert capsys.readouterr().out == "bad?.jpg\n"
