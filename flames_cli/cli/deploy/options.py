"""Options that the commands of a deployment share."""

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_DEPLOYMENT = Path("flames-deployment")

DeploymentFolder = Annotated[
    Path, typer.Option("--deployment", help="Folder that `flames deploy init` made.")
]
