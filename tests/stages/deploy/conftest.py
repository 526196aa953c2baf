"""A deployment on loopback."""

from pathlib import Path
from typing import Any

import pytest

from flames_cli.flower.processes import free_port
from flames_cli.stages.deploy.init import init_deployment


@pytest.fixture
def deployment(tmp_path: Path) -> Any:
    """Of two sites, a and b, with its server at a port of localhost where nothing listens."""
    return init_deployment(tmp_path / "deployment", "localhost", free_port(), ["a", "b"], 825)
