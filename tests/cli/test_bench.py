"""`atrous bench`: every contestant in a process of its own, a table, and the numbers as JSON."""

import json

import pytest

from atrous.bench import measuring


@pytest.mark.slow
def test_engines_are_measured_and_held_to_torchs_labels(atrous, model_folder, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "_SECONDS", 0.05)
    file = tmp_path / "new" / "bench.json"
    options = ["--photo", photos / "a.png", "--size", "65x97", "--engines", "onnxruntime,openvino-int8", "--threads", 1]
    done = atrous("bench", model_folder, *options, "--json", file)
    assert done.exit_code == 0, done.stderr
    found = json.loads(file.read_text())
    assert found["size"] == [65, 97]
    assert found["threads"] == 1
    assert found["machine"]
    assert [each["name"] for each in found["measured"]] == ["torch", "onnxruntime"]
    for each in found["measured"]:
        assert each["runs"] >= 5
        assert each["quartiles"][0] <= each["milliseconds"] <= each["quartiles"][1]
        assert each["first_seconds"] * 1e3 > each["milliseconds"]
        assert 50e6 < each["peak_bytes"] < 3e9
    assert found["measured"][0]["agreement"] == 1
    assert found["measured"][1]["agreement"] > 0.999
    [left_out] = found["left_out"]
    assert left_out["name"] == "openvino-int8"
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert {"torch", "onnxruntime"} <= set(names)
    assert done.stdout.splitlines()[-1].startswith("left out: openvino-int8: ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "0"], "--size '0': give a side"),
        (["--size", "dynamic"], "--size 'dynamic': give a side"),
        (["--engines", "torch,caffe"], "engine 'caffe' is unknown"),
        (["--device", "warp"], "device 'warp' is unknown"),
        (["--photo", "none.jpg"], "none.jpg"),
    ],
)
def test_misuse_is_one_line(atrous, model_folder, options, message):
    done = atrous("bench", model_folder, *options)
    assert done.exit_code == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
