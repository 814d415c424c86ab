"""docs/options.md is true: every option in it parses, every default in it is the code's."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sketchknitter import cli
from sketchknitter.cli import sample, shim, train
from sketchknitter.cli.toml import to_toml, words_of
from sketchknitter.errors import UserError

TABLE = Path(__file__).parents[2] / "docs" / "options.md"
VERBS = {"train": train, "sample": sample}

# every flag of the original train.py and sample.py, and what their README adds
TRAIN = (
    "data_dir schedule_sampler lr weight_decay lr_anneal_steps batch_size microbatch ema_rate"
    " log_interval save_interval resume_checkpoint use_fp16 fp16_scale_growth log_dir category"
)
SHARED = (
    "image_size num_channels num_res_blocks num_heads num_heads_upsample attention_resolutions"
    " dropout learn_sigma sigma_small class_cond diffusion_steps noise_schedule timestep_respacing"
    " use_kl predict_xstart rescale_timesteps rescale_learned_sigmas use_checkpoint"
    " use_scale_shift_norm emb_channels out_channels"
)
SAMPLE = "clip_denoised num_samples batch_size use_ddim model_path log_dir save_path pen_break"
ORIGINAL = {"train": f"{TRAIN} {SHARED}".split(), "sample": f"{SAMPLE} {SHARED} use_fp16".split()}
# a value for each; the others take 3
VALUES = {
    "dropout": "0.5",
    "data_dir": "drawings",
    "category": "cat",
    "log_dir": "runs/x",
    "model_path": "model.safetensors",
    "resume_checkpoint": "runs/x/state.safetensors",
    "save_path": "out",
    "schedule_sampler": "loss-second-moment",
    "noise_schedule": "linear",
    "ema_rate": "0.99,0.999",
    "attention_resolutions": "16,8",
    "timestep_respacing": "ddim30",
    "num_channels": "96",
    "pen_break": ".1",
}
BOOLEAN = tuple(
    shlex.split(
        "use_fp16 learn_sigma sigma_small class_cond use_kl predict_xstart rescale_timesteps"
        " rescale_learned_sigmas use_checkpoint use_scale_shift_norm clip_denoised use_ddim"
    )
)


def rows() -> list[tuple[list[str], str, str]]:
    """(original names, ours, default) of each row of the table."""
    found = []
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        cells = [c.strip() for c in line.strip("|").split(" | ")]
        if line.startswith("|") and len(cells) == 4 and cells[1] not in ("Ours", "---"):
            found.append((re.findall(r"`(\w+)`", cells[0]), cells[1], cells[2]))
    return found


def shown(value: object) -> str:
    """A default as the table shows it."""
    if value in ((), "", None):
        return "none"
    if isinstance(value, tuple):
        return " ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in value)
    return str(value)


def everything(options: object) -> dict[str, object]:
    out: dict[str, object] = {}
    for group in dataclasses.fields(options):  # type: ignore[arg-type]
        out |= dataclasses.asdict(getattr(options, group.name))
    return out


def ours(verb: str) -> dict[str, str]:
    """Our options of a verb and their defaults, as the table has them."""
    found = {}
    for _, cell, default in rows():
        if match := re.match(rf"`{verb} (?:--([\w-]+)|(CLASS))`", cell):
            found[match[1].replace("-", "_") if match[1] else "label"] = default
    return found


@pytest.mark.parametrize("verb", ["train", "sample"])
def test_the_table_has_every_option_with_its_default(verb: str) -> None:
    defaults = everything(VERBS[verb].parse([]))
    expected = {name: shown(value) for name, value in defaults.items()}
    if verb == "sample":
        expected["pen_break"] = "auto"
    assert ours(verb) == expected


@pytest.mark.parametrize("verb", ["train", "sample"])
def test_the_table_has_every_original_option(verb: str) -> None:
    other = "sample" if verb == "train" else "train"
    named = {
        n
        for names, cell, _ in rows()
        if f"`{other} " not in cell and f"({other})" not in cell
        for n in names
    }
    assert set(ORIGINAL[verb]) <= named


def words(name: str, value: str, spelling: str) -> list[str]:
    if spelling == "=":
        return [f"--{name}={value}"]
    return [f"--{name.replace('_', spelling)}", value]


def float_or(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


@pytest.mark.parametrize("spelling", ["_", "-", "="])
@pytest.mark.parametrize("verb", ["train", "sample"])
def test_every_original_option_parses_or_says_why_not(
    verb: str, spelling: str, capsys: pytest.CaptureFixture[str]
) -> None:
    module = VERBS[verb]
    defaults = everything(module.parse([]))
    argv: list[str] = []
    for name in dict.fromkeys(ORIGINAL[verb]):
        for value in ("False", "True") if name in BOOLEAN else (VALUES.get(name, "3"),):
            argv += words(name, value, spelling)
    capsys.readouterr()
    options = everything(module.parse(argv))
    notes = capsys.readouterr().err
    rules = shim.TRAIN if verb == "train" else shim.SAMPLE
    for name in ORIGINAL[verb]:
        value = "True" if name in BOOLEAN else VALUES.get(name, "3")
        rule = rules.get(name)
        if rule is None:
            assert str(options[name]) in (value, str((value,)), f"{float_or(value)}")
        elif not rule(value).args:
            assert name in notes.replace("-", "_")
    changed = {k for k in options if options[k] != defaults[k]}
    assert changed >= (
        {"points", "widths", "parametrization", "precision", "resume_checkpoint"}
        if verb == "train"
        else {"sampler", "timesteps", "steps", "clip", "output", "pen_break", "num_samples"}
    )


def test_old_train_command_means_the_same() -> None:
    options = train.parse(
        shlex.split(
            "--data_dir d --category cat dog --batch_size 32 --use_fp16 True --num_channels 96"
            " --image_size 64 --predict_xstart False --use_scale_shift_norm False --ema_rate 0.99"
            " --microbatch -1"
        )
    )
    assert options.run.data_dir == ("d",)
    assert options.run.category == ("cat", "dog")
    assert options.optim.precision == "float16"
    assert options.optim.microbatch == -1
    assert options.network.widths == (96, 192, 288)
    assert options.codec.points == 64
    assert options.diffusion.parametrization == "eps"
    assert options.network.use_scale_shift_norm is False


def test_old_sample_command_means_the_same() -> None:
    options = sample.parse(
        shlex.split(
            "--num_samples 7 --use_ddim True --timestep_respacing ddim30 --pen_break .1"
            " --save_path out --clip_denoised True --category cat"
        )
    )
    what, how = options.what, options.how
    assert (what.num_samples, what.output, what.label) == (7, "out/result.npz", ("cat",))
    assert (how.sampler, how.timesteps, how.steps) == ("ddim", "linear", 30)
    assert (how.pen_break, how.clip) == (0.1, 1.0)
    assert sample.parse(["--pen-break", "auto"]).how.pen_break is None
    assert sample.parse(["--timestep_respacing", "250"]).how.steps == 250
    assert sample.parse(["--save_path", "my.svg"]).what.output == "my.svg"


def test_ancestral_sampling_visits_all_levels_unless_told() -> None:
    assert not sample._asked_steps(["--use_ddim", "False"])
    assert sample._asked_steps(["--use_ddim", "False", "--timestep_respacing", "50"])
    assert sample.parse(["--sampler", "ddpm", "--steps", "9"]).how.steps == 9


@pytest.mark.parametrize(
    ("text", "value"),
    [("", True), (" True", True), (" false", False), ("=1", True), ("=no", False), (" 0", False)],
)
def test_our_true_false_options_take_a_value_or_none(text: str, value: bool) -> None:
    assert train.parse(f"--resume{text}".split()).run.resume is value
    assert (
        train.parse(f"--use_scale_shift_norm{text}".split()).network.use_scale_shift_norm is value
    )


def test_a_flag_does_not_eat_a_class() -> None:
    options = sample.parse(["--captions", "cat"])
    assert options.what.captions
    assert options.what.label == ("cat",)


@pytest.mark.parametrize(
    ("module", "argv", "message"),
    [
        (train, ["--use_fp16"], "needs a value"),
        (train, ["--use_fp16", "perhaps"], "True or False"),
        (train, ["--num_channels", "wide"], "whole number"),
        (train, ["--resume=perhaps"], "True or False"),
        (sample, ["--timestep_respacing", "10,20,30"], "section counts"),
    ],
)
def test_bad_values_are_refused(module: object, argv: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        module.parse(argv)  # type: ignore[attr-defined]


@pytest.mark.parametrize("argv", [["--lrr", "1"], ["--lr", "fast"], ["--precision", "int8"]])
def test_unknown_options_and_values_end_with_status_2(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        train.parse(argv)
    assert ended.value.code == 2


# -- TOML ------------------------------------------------------------------------------------------
def test_config_file_gives_defaults_and_the_command_line_wins(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text(
        "data_dir = ['a', 'b']\nuse_fp16 = true\n[optim]\nlr = 1e-4\nbatch-size = 8\n"
        "[network]\nwidths = [8, 16]\nuse_scale_shift_norm = false\n"
    )
    options = train.parse(["--config", str(file), "--lr", "0.5"])
    assert options.run.data_dir == ("a", "b")
    assert (options.optim.lr, options.optim.batch_size) == (0.5, 8)
    assert options.optim.precision == "float16"
    assert options.network.widths == (8, 16)
    assert not options.network.use_scale_shift_norm


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lerning_rate = 1", "no option 'lerning_rate'"),
        ("[optim]\nbatchsize = 1", "did you mean 'batch_size'"),
        ("lr = ", "not a TOML file"),
        ("lr = 2026-01-01", "lr cannot be"),
    ],
)
def test_bad_config_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "my.toml"
    file.write_text(text)
    with pytest.raises(UserError, match=message):
        train.parse(["--config", str(file)])
    with pytest.raises(UserError, match="no such file"):
        train.parse(["--config", str(tmp_path / "none.toml")])


def test_options_survive_toml(tmp_path: Path) -> None:
    options = train.parse(
        [
            "--category",
            'ice "cream"',
            "c\\d",
            "--lr",
            "3e-5",
            "--widths",
            "8",
            "--no-show-positions",
        ]
    )
    file = tmp_path / "options.toml"
    file.write_text(to_toml(options))
    assert train.parse(words_of(file, train.option_names())) == options


# -- speed -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("verb", ["", *(v for v in cli.VERBS if v != "data"), "data prepare"])
def test_help_has_examples_and_never_loads_torch(verb: str) -> None:
    code = (
        "import sys\nfrom sketchknitter.cli import main\n"
        f"try: main({[*verb.split(), '--help']!r})\nexcept SystemExit as e: assert not e.code\n"
        "assert 'torch' not in sys.modules, 'torch was loaded'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"sketchknitter {verb}".strip() in done.stdout
    assert "examples:" in done.stdout


@pytest.mark.parametrize(
    ("own", "found"),
    [
        ({}, "1000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "None"),
    ],
)
def test_how_threads_wait_is_settled_before_torch_is_imported(
    own: dict[str, str], found: str
) -> None:
    code = (
        "import os, sys\n"
        "from sketchknitter.cli import main\n"
        "class Watch:\n"
        "    def find_spec(self, name, *others):\n"
        "        if name == 'torch':\n"
        "            print(os.environ.get('GOMP_SPINCOUNT'))\n"
        "            sys.exit(0)\n"
        "sys.meta_path.insert(0, Watch())\n"
        "main(['sample', '-n', '1'])"
    )
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=kept | own
    )
    assert done.stdout.split() == [found], done.stderr


@pytest.mark.parametrize(
    "verb", [*(v for v in cli.VERBS if v != "data"), "data prepare", "data view", "data download"]
)
def test_help_says_a_default_once(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.suppress(SystemExit):
        cli.main([*verb.split(), "--help"])
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert not re.search(r"\((the )?default[^()]*\) \(default:", text)
    assert ":class:" not in text


def test_a_table_takes_every_core_unless_something_else_spreads_the_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One row after another, twenty minutes of one core each would take more than four hours."""
    from sketchknitter.cli.table import Table, jobs_of

    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 3}, raising=False)
    assert jobs_of(Table(), "cpu", False) == 2
    assert jobs_of(Table(jobs=1), "cpu", False) == 1
    assert jobs_of(Table(threads=2), "cpu", False) == 1
    assert jobs_of(Table(), "cuda", False) == jobs_of(Table(), "cpu", True) == 1
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(64)), raising=False)
    assert jobs_of(Table(), "cpu", False) == 8
