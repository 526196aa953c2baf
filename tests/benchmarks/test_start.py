"""Every benchmark starts: a name that it imports and that has changed is noticed here."""

import json

import pytest

from tests.benchmarks.loading import BENCHMARKS, run

STARTED_BY_ENGINES = {"engines_app", "engines_nvflare"}
"""An app of Flower's, and a script for an environment with NVFlare."""
SCRIPTS = sorted({path.stem for path in BENCHMARKS.glob("*.py")} - STARTED_BY_ENGINES)


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_benchmark_shows_its_help(name, monkeypatch, capsys):
    with pytest.raises(SystemExit, match=r"^0$"):
        run(name, monkeypatch, "--help")
    assert f"usage: {name}.py" in capsys.readouterr().out


def test_the_scale_benchmark_measures_every_server(tmp_path, monkeypatch, capsys):
    run("scale", monkeypatch, "--toy", "--out", tmp_path)
    rows = (tmp_path / "scale.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == [
        "server",
        *("flower", "fedavg", "fedavg-files", "flames", "flames-files"),
    ]
    assert capsys.readouterr().out.count("x ") >= 5
    assert (tmp_path / "scale.png").stat().st_size > 10_000


def test_one_server_of_the_scale_benchmark_prints_its_figures(monkeypatch, capsys):
    run("scale_arm", monkeypatch, "fedavg", 2, "--megabytes", 0.2, "--rounds", 1)
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["seconds"] > 0
    assert figures["peak_mb"] >= 0


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("local_rules", ("--images", 2, "--size", 16, "--batch", 2, "--rounds", 1)),
        ("train", ("--size", 16, "--batch", 2, "--steps", 1, "--fp32-only", "--device", "cpu")),
    ],
)
def test_benchmarks_of_training_print_a_ratio(name, options, monkeypatch, capsys):
    run(name, monkeypatch, *options)
    lines = capsys.readouterr().out.splitlines()
    assert "1.00x" in lines[1]


def test_the_benchmark_of_messages_compares_objects_times_and_bytes(monkeypatch, capsys):
    run("wire", monkeypatch, "messages", "--megabytes", 0.1, "--entries", 7, "--repeats", 1)
    lines = capsys.readouterr().out.splitlines()
    assert "| 0.1 MB, 7 entries | Flower's objects | 17 | 5 | 3.4 |" in lines
    assert [line.split(" | ")[0] for line in lines[-4:]] == ["| fp32", "| fp16", "| bf16", "| int8"]


def test_the_benchmark_of_wire_types_compares_dice(tiny, monkeypatch, capsys):
    options = ("--rounds", 1, "--base-channels", 2, "--wire", "int8")
    run("wire", monkeypatch, "runs", "--workspace", tiny(), *options)
    assert capsys.readouterr().out.splitlines()[-1].startswith("| int8 | ")


def test_the_benchmark_of_preprocessing_draws_its_speed_over_the_workers(tmp_path, monkeypatch, capsys):
    saved, picture = tmp_path / "speed.json", tmp_path / "speed.png"
    options = ("--toy", "--only", "otu2d", "--workers", 1, 2, "--copies", 2)
    run("preprocess", monkeypatch, *options, "--save", saved)
    run("preprocess", monkeypatch, "--draw", saved, "--plot", picture)
    (figures,) = json.loads(saved.read_text(encoding="utf-8"))["sets"]
    assert figures["sources"] == 24
    assert list(figures["per_s"]) == ["1", "2"]
    assert "x plain" in capsys.readouterr().out
    assert picture.read_bytes().startswith(b"\x89PNG")
