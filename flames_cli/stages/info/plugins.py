"""`flames info --plugins`: all plug-ins with their packages, and what is wrong with them."""

from dataclasses import dataclass
from typing import Any

from flames_cli.plugins import Origin, all_plugins, all_problems, registry_of


@dataclass(frozen=True, slots=True)
class Survey:
    """Plug-ins of this machine, and their faults."""

    plugins: tuple[Origin, ...]
    problems: tuple[str, ...]
    """Lines, each of which names a package or a file."""

    def as_json(self) -> dict[str, Any]:
        """Return the result as a JSON object."""
        return {
            "plugins": [
                {
                    "group": one.group,
                    "name": one.name,
                    "package": one.package,
                    "version": one.version,
                    "reference": one.reference,
                    "file": str(one.file) if one.file else None,
                }
                for one in self.plugins
            ],
            "problems": list(self.problems),
        }


def survey_plugins() -> Survey:
    """Return all plug-ins; each one is imported, so that its faults are known."""
    found = all_plugins()
    named = [str(one) for one in all_problems()]
    broken = [registry_of(one.group).problem_of(one) for one in found]
    return Survey(tuple(found), tuple(dict.fromkeys((*named, *filter(None, broken)))))


def count_plugins() -> dict[str, int]:
    """Return the numbers of plug-ins and of faults that are known without an import of a package."""
    return {"plugins": len(all_plugins()), "problems": len(all_problems())}
