"""The example of a plug-in file with strategies."""

import runpy
from pathlib import Path

FILE = Path(__file__).parents[2] / "examples" / "plugins" / "strategies.py"
STRATEGIES = runpy.run_path(str(FILE))["STRATEGIES"]
