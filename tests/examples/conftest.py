"""The example package, installed as a user's own package, and data in the layout of its reader."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import invalidate_caches
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.command_line import ROOT, flames
from tests.support.once import make_once

SOURCE = ROOT / "examples" / "flames-example"


@dataclass(frozen=True)
class Package:
    """An installed package: its folder is on the search path of this process and of those that it starts."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch

    def install(self) -> None:
        self.monkeypatch.syspath_prepend(self.folder)
        self.monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(self.folder), str(ROOT)]))

    def uninstall(self) -> None:
        sys.path.remove(str(self.folder))
        self.monkeypatch.setenv("PYTHONPATH", str(ROOT))
        invalidate_caches()


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder into which pip has installed the example package, for reading only."""

    def make(folder: Path) -> None:
        # A copy: pip writes into the folder that it builds.
        source = shutil.copytree(SOURCE, folder / "source")
        options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
        command = [sys.executable, "-m", "pip", "install", *options, "--target", str(folder / "there")]
        subprocess.run([*command, str(source)], check=True, capture_output=True, text=True)
        shutil.rmtree(source)

    return make_once(tmp_path_factory, "flames-example", make) / "there"


@pytest.fixture
def example(built: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Package]:
    """The installed example package."""
    package = Package(built, monkeypatch)
    package.install()
    yield package
    for name in [name for name in sys.modules if name.partition(".")[0] == "flames_example"]:
        del sys.modules[name]


@pytest.fixture(scope="session")
def isic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ISIC2018: 36 images of 40×48 pixels with a lesion, and one whose mask has another size."""

    def make(folder: Path) -> None:
        rng = np.random.default_rng(0)
        (folder / "images").mkdir()
        (folder / "masks").mkdir()
        rows, columns = np.mgrid[:40, :48]
        for number in range(36):
            centre, radius = rng.uniform(14, 26, 2), rng.uniform(5, 9)
            lesion = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < radius**2
            skin = rng.normal(170, 8, (40, 48, 3)) - 90 * lesion[..., None]
            name = f"ISIC_{number:07}"
            Image.fromarray(skin.clip(0, 255).astype(np.uint8)).save(folder / "images" / f"{name}.jpg")
            Image.fromarray(lesion).save(folder / "masks" / f"{name}_segmentation.png")
        shutil.copy(folder / "images" / "ISIC_0000000.jpg", folder / "images" / "ISIC_9999999.jpg")
        Image.new("L", (9, 9)).save(folder / "masks" / "ISIC_9999999_segmentation.png")

    return make_once(tmp_path_factory, "ISIC2018", make)


@pytest.fixture
def work(example: Package, isic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a workspace of three clients, made by the reader of the package."""
    monkeypatch.chdir(tmp_path)
    said = flames("preprocess", "--dataset", "isic2018", "--raw", isic, "--size", "32", "--skip-bad")
    assert "1" in said.output
    flames("partition", "--split", "isic2018=3")
    return tmp_path
