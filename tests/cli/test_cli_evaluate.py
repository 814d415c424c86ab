import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import orjson
import pytest

from sketchknitter import Sketch, io
from sketchknitter.cli import main

FAST = ["--geometry-repeats", "2", "--no-copy-check"]


@pytest.fixture
def apples() -> str:
    root = os.environ.get("SKETCHKNITTER_DATA")
    if not root:
        pytest.skip("needs real drawings: set SKETCHKNITTER_DATA")
    return str(Path(root) / "quickdraw" / "apple.npz")


def refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as caught:
        main(["evaluate", *argv])
    assert caught.value.code == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_table_and_report_of_a_split_against_another(apples, tmp_path, capsys):
    out = tmp_path / "r.json"
    main(["evaluate", f"{apples}:valid", "--against", apples, "-o", str(out), *FAST])
    text = capsys.readouterr().out
    assert "apple.npz:valid  against  apple.npz:test" in text
    for name in ("fid_sketch", "kid", "precision", "geometry_score", "top1", "w_turning_angle"):
        assert f"\n{name} " in text
    assert "warning: N = 50 is small" in text
    assert "nan" not in text.lower()
    figures = {f["name"]: f for f in orjson.loads(out.read_bytes())["figures"]}
    assert figures["fid_sketch"]["n"] == 50
    assert figures["fid_sketch"]["value"] < 2 * figures["fid_sketch"]["floor"]


def test_a_set_against_itself(apples, capsys):
    main(["evaluate", apples, "--against", apples, "--split", "test", *FAST])
    rows = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line}
    assert float(rows["fid_sketch"][2]) < 1e-6
    assert rows["precision"][2] == rows["recall"][2] == "1"
    assert rows["geometry_score"][2] == "0"


def test_bad_input_is_one_line_and_exit_2(apples, tmp_path, capsys):
    good = [Sketch([np.random.default_rng(i).random((9, 2))], "apple") for i in range(9)]
    against = ["--against", apples]
    io.write(good[:1], tmp_path / "one.npz")
    assert "one drawing" in refused([str(tmp_path / "one.npz"), *against], capsys)
    io.write(good[:1] * 9, tmp_path / "same.npz")
    assert "identical" in refused([str(tmp_path / "same.npz"), *against], capsys)
    np.savez(tmp_path / "nan.npz", test=np.full((5, 8, 3), np.nan, np.float32))
    assert "nan.npz" in refused([str(tmp_path / "nan.npz"), *against], capsys)
    (tmp_path / "empty.npz").write_bytes(b"")
    assert "empty.npz" in refused([str(tmp_path / "empty.npz"), *against], capsys)
    assert "no such file" in refused([str(tmp_path / "none.npz"), *against], capsys)
    assert "-n" in refused([apples, *against, "-n", "0"], capsys)
    assert ".json" in refused([apples, *against, "-o", "r.pdf"], capsys)
    missing = str(tmp_path / "judge.safetensors")
    assert "no readable judge" in refused([apples, *against, "--judge", missing], capsys)


def test_inception_without_weights_says_where_they_belong(apples, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SKETCHKNITTER_INCEPTION", str(tmp_path / "weights.pt"))
    message = refused([apples, "--against", apples, "--features", "inception"], capsys)
    assert "weights.pt: no Inception weights" in message
    assert "--features judge" in message


def test_help_is_quick_and_has_examples():
    code = "import sys; from sketchknitter.cli import main; main(['evaluate', '--help'])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert shown.returncode == 0
    assert "sketchknitter evaluate cats.npz --against prepared" in shown.stdout
    probe = code.replace(
        "import sys;", "import sys, atexit; atexit.register(lambda: print('torch' in sys.modules));"
    )
    assert subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True
    ).stdout.endswith("False\n")
