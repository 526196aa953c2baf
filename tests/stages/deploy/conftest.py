"""A deployment on loopback."""

from pathlib import Path
from typing import Any

import pytest

from flames_cli.flower.processes import free_port
from flames_cli.stages.deploy.init import init_deployment


@pytest.fixture
def deployment(tmp_path: Path) -> Any:
    """Deployment with the sites a and b, and with a free port of localhost for its server."""
    return init_deployment(tmp_path / "deployment", "localhost", free_port(), ["a", "b"], 825)
