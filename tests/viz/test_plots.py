"""Plots: files by their suffix, alike every time."""

from pathlib import Path

import pytest
from matplotlib import rcParams
from matplotlib.figure import Figure
from PIL import Image

from atrous.errors import AtrousError
from atrous.viz import plots


def drawn() -> Figure:
    figure = plots.figure(4, 2)
    axes = figure.subplots()
    axes.plot([1, 2, 3], [3, 1, 2], label="a line")
    axes.legend()
    return figure


def test_the_same_plot_is_the_same_file_and_global_style_is_left_alone(tmp_path: Path) -> None:
    before = dict(rcParams)
    for suffix in plots.SUFFIXES:
        first, second = (plots.save(drawn(), tmp_path / f"{name}{suffix}") for name in "ab")
        assert first.read_bytes() == second.read_bytes(), suffix
    assert dict(rcParams) == before
    assert "a line" in (tmp_path / "a.svg").read_text()  # as text, not as outlines
    assert Image.open(tmp_path / "a.png").size == (600, 300)


def test_another_suffix_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(AtrousError, match=r"curve\.bmp: a plot is saved as \.png, \.svg or \.pdf"):
        plots.save(drawn(), tmp_path / "curve.bmp")
    assert not list(tmp_path.iterdir())


def test_names_are_no_formulas_and_an_svg_leaves_letters_to_its_readers_fonts(tmp_path: Path, recwarn) -> None:
    figure = plots.figure(4, 2)
    axes = figure.subplots()
    axes.set_yticks([0, 1, 2], ["$_$", "$x_1$", "道路"])
    axes.set_title("$_$")
    written = plots.save(figure, tmp_path / "a.svg").read_text(encoding="utf-8")
    assert all(name in written for name in ("$_$", "$x_1$", "道路"))
    assert not recwarn.list
