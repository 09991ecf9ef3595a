"""The frame of the command: quick to start, one line for an error, exit codes."""

import errno
import os
import signal
import subprocess
import sys
import time

import pytest
import typer
from typer.testing import CliRunner

from atrous import __version__
from atrous.cli.main import app
from atrous.errors import AtrousError

HEAVY = ("torch", "cv2", "PIL", "numpy", "numba")


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["predict", "--help"], []])
def test_help_and_version_import_nothing_heavy(args) -> None:
    code = (
        "import sys; from atrous.cli.main import main\n"
        f"try: main()\nfinally: print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "[]", done.stderr
    assert done.returncode == (0 if args else 2)
    assert __version__ in done.stdout if args == ["--version"] else "Usage" in done.stdout + done.stderr


@pytest.mark.parametrize(("library", "spared"), [("torch", True), ("triton", False)])
def test_the_end_is_silent_and_looks_for_garbage_where_it_must(library, spared) -> None:
    """What is left out of Python's last search, triton's bindings take for leaked, and list on standard error."""
    pytest.importorskip(library)
    code = (
        f"import atexit, gc, sys, {library}; from atrous.cli.main import main\n"
        "atexit.register(lambda: print(gc.get_freeze_count() > 0))\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code, "--version"], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [f"atrous {__version__}", str(spared)]


def test_every_command_is_in_the_help(atrous) -> None:
    shown = CliRunner().invoke(app, ["--help"]).output
    assert "predict" in shown
    assert "models" in shown


@pytest.mark.parametrize("args", [["predict"], ["predict", "x", "--frobnicate"], ["dance"], ["models", "--tile", "3"]])
def test_wrong_usage_exits_with_2(args) -> None:
    result = CliRunner().invoke(app, args)
    assert result.exit_code == 2
    assert "Usage" in result.stderr
    assert result.stdout == ""


@pytest.fixture
def failing(monkeypatch):
    """`atrous models` raises what the test gives."""

    def fail_with(error: BaseException) -> None:
        def raise_it() -> list[str]:
            raise error

        monkeypatch.setattr("atrous.weights.list_bundled", raise_it)

    return fail_with


def test_an_error_of_ours_is_one_line_and_2(failing) -> None:
    failing(AtrousError("x.jpg: is empty"))
    result = CliRunner().invoke(app, ["models"])
    assert result.exit_code == 2
    assert result.stderr == "atrous: error: x.jpg: is empty\n"


def test_a_fault_of_ours_is_one_line_and_70(failing) -> None:
    failing(KeyError("surprise"))
    result = CliRunner().invoke(app, ["models"])
    assert result.exit_code == 70
    assert result.stderr == "atrous: internal error: KeyError: 'surprise' (add --debug to see where)\n"


@pytest.mark.parametrize("args", [["--debug", "models"], ["models", "--debug"]])
@pytest.mark.parametrize(("error", "code"), [(AtrousError("no"), 2), (KeyError("no"), 70)])
def test_debug_shows_the_traceback_wherever_it_stands(failing, args, error, code) -> None:
    failing(error)
    result = CliRunner().invoke(app, args)
    assert result.exit_code == code
    assert "Traceback" in result.stderr
    assert "raise_it" in result.stderr


def test_debug_after_two_dashes_is_a_file_name(atrous, tmp_path) -> None:
    result = atrous("predict", "--out", tmp_path, "--", "--debug")
    assert result.exit_code == 2
    assert "Traceback" not in result.stderr


def test_an_interrupt_is_130(failing) -> None:
    failing(KeyboardInterrupt())
    result = CliRunner().invoke(app, ["models"])
    assert result.exit_code == 130
    assert result.stderr == "atrous: interrupted\n"


def test_typers_own_exits_pass_through() -> None:
    @app.command(hidden=True)
    def leave() -> None:
        raise typer.Exit(5)

    try:
        assert CliRunner().invoke(app, ["leave"]).exit_code == 5
    finally:
        app.registered_commands.pop()


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
def test_ctrl_c_while_predicting_ends_soon_and_leaves_no_half_file(photos, model_folder, tmp_path) -> None:
    # A shell starts what runs in the background, as CI may, with the interrupt ignored, and that is inherited.
    listen = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code = listen + "from atrous.cli.main import main; main()"
    out = tmp_path / "out"
    scales = ",".join(["1.5"] * 900)  # some seconds a photo, on a busy machine too
    process = subprocess.Popen(
        [sys.executable, "-c", code, "predict", photos, "--out", out, "--model", model_folder, "--scales", scales],
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 240
    while not (out.is_dir() and any(out.iterdir())) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr.splitlines()[-1] == "atrous: interrupted"
    assert {path.suffix for path in out.iterdir()} <= {".png", ".jpg"}


def test_python_m_atrous_is_the_command_too():
    done = subprocess.run([sys.executable, "-m", "atrous", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"atrous {__version__}"


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
def test_told_to_end_it_leaves_no_half_file_either(photos, model_folder, tmp_path) -> None:
    out = tmp_path / "out"
    scales = ",".join(["1.5"] * 900)  # some seconds a photo, on a busy machine too
    process = subprocess.Popen(
        [sys.executable, "-m", "atrous", "predict", photos, "--out", out, "--model", model_folder, "--scales", scales],
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 240
    while not (out.is_dir() and any(out.iterdir())) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert {path.suffix for path in out.iterdir()} <= {".png", ".jpg"}
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


def test_a_file_that_may_not_be_read_is_no_fault_of_ours(failing) -> None:
    failing(PermissionError(errno.EACCES, "Permission denied", "locked/x"))
    result = CliRunner().invoke(app, ["models"])
    assert result.exit_code == 2
    assert result.stderr == "atrous: error: locked/x: Permission denied\n"


@pytest.mark.parametrize("args", [["--out", ""], ["--out="], ["-o", ""]])
def test_an_empty_out_is_not_the_current_folder(photos, args, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    result = CliRunner().invoke(app, ["predict", str(photos), *args])
    assert result.exit_code == 2
    assert result.stderr == "atrous: error: --out: is empty: give a file or a folder, or . for this one\n"
    assert set(tmp_path.iterdir()) == before


def test_letters_that_a_terminal_lacks_stop_nothing(photos, model_folder, tmp_path) -> None:
    (tmp_path / "日本.png").write_bytes((photos / "a.png").read_bytes())
    command = [sys.executable, "-m", "atrous", "predict", tmp_path / "日本.png", "--model", model_folder]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [*command, "--out", tmp_path / "out"], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert r"\u65e5\u672c.png  60\xd740" in done.stdout
    assert (tmp_path / "out" / "日本.png").is_file()
