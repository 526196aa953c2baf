"""Every public function has an example in its docstring, and the examples are true."""

import doctest
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import flames_cli as flames
from tests.api.conftest import TOY
from tests.api.test_surface import CLASSES, FUNCTIONS


@pytest.fixture(scope="module")
def names(study, tmp_path_factory) -> dict[str, Any]:
    """The names that the examples use."""
    folder = tmp_path_factory.mktemp("examples")
    image = folder / "image.png"
    cv2.imwrite(str(image), np.full((40, 60), 90, np.uint8))
    return {
        "flames": flames,
        "workspace": Path(shutil.copytree(study, folder / "workspace")),
        "folder": folder,
        "raw": flames.make_phantoms(folder / "raw", patients={"busi": 8}),
        "image": image,
        "toy": TOY,
    }


@pytest.mark.parametrize("name", [*FUNCTIONS, *CLASSES])
def test_the_examples_of_a_docstring_are_true(name, names):
    found = doctest.DocTestFinder(recurse=True).find(getattr(flames, name), name, globs=names)
    examples = [test for test in found if test.examples]
    assert examples, f"{name} has no example"
    runner, wrong = doctest.DocTestRunner(verbose=False), list[str]()
    for test in examples:
        runner.run(test, out=wrong.append)
    assert not wrong, "".join(wrong)
