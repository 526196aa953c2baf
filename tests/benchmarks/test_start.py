"""Every benchmark starts: a name that it imports and that has changed is noticed here."""

import json

import pytest

from tests.benchmarks.loading import BENCHMARKS, run

SCRIPTS = sorted(path.stem for path in BENCHMARKS.glob("*.py"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_benchmark_shows_its_help(name, monkeypatch, capsys):
    with pytest.raises(SystemExit, match=r"^0$"):
        run(name, monkeypatch, "--help")
    assert f"usage: {name}.py" in capsys.readouterr().out


@pytest.mark.parametrize("arm", ["fedavg", "flames", "flower"])
def test_a_federation_of_the_scale_benchmark_runs(arm, monkeypatch, capsys):
    run("scale_arm", monkeypatch, arm, 2, "--megabytes", 0.5, "--rounds", 1)
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
