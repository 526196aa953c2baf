"""Process with torch and FLAMES loaded, which forks a child for every command, so that a start takes no
seconds.

It is run as a script: it reads one command per line (JSON) on stdin and answers with one line on stdout. A
child may kill itself (SIGKILL) at a point that is patched in here, because production code contains no such
points; or its parent kills it after some seconds. SIGKILL runs no `finally` and no `except`, like a power
loss.
"""

import json
import os
import pathlib
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

Work = Callable[[], None]


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive")


def main() -> None:
    # Everything that a child would load: torch's optimisers alone take a second on their first use.
    import torch
    import torch._dynamo

    import flames_cli.stages.evaluate.stage
    import flames_cli.stages.federate.stage  # noqa: F401
    from flames_cli.fed import training  # noqa: F401

    torch.set_num_threads(1)

    tell("ready")
    for line in sys.stdin:
        tell(answer(**json.loads(line)))


def tell(what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def answer(after: float | None = None, **command: Any) -> dict[str, Any]:
    """Return how a child with `command` ended, killed by its parent after `after` seconds or by itself."""
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        work(**command)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    ended = {"seconds": time.monotonic() - began}
    if os.WIFSIGNALED(status):
        return {**ended, "signal": os.WTERMSIG(status)}
    return {**ended, "exit": os.WEXITSTATUS(status)}


def work(
    stage: str, options: dict[str, Any], log: str, point: str = "", at: dict[str, Any] | None = None
) -> NoReturn:
    """Run `stage` with `options`, to be killed at `point`; its output goes to `log`."""
    code = 1
    try:
        with Path(log).open("w", encoding="utf-8") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        watch = POINTS[point](**(at or {})) if point else None
        STAGES[stage](options, watch)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def run_federate(options: dict[str, Any], watch: Callable[[Any], None] | None) -> None:
    from flames_cli.config import FederateConfig
    from flames_cli.fed.events import Noted
    from flames_cli.stages.federate.stage import federate

    def listen(event: Any) -> None:
        if isinstance(event, Noted):
            sys.stderr.write(f"noted: {event.note}\n")
        if watch:
            watch(event)

    federate(FederateConfig(**options), listen)


def run_evaluate(options: dict[str, Any], watch: Callable[[Any], None] | None) -> None:
    from flames_cli.config import EvaluateConfig
    from flames_cli.stages.evaluate.stage import evaluate

    def progress(task: str, done: int, total: int) -> None:
        if watch:
            watch((task, done))

    evaluate(EvaluateConfig(**options), progress)


STAGES = {"federate": run_federate, "evaluate": run_evaluate}


def at_step(round: int, client: str, step: int) -> Callable[[Any], None]:
    """Kill within a client's training."""
    from flames_cli.fed.events import StepDone

    def watch(event: Any) -> None:
        if isinstance(event, StepDone) and (event.round, event.client, event.step) == (round, client, step):
            die()

    return watch


def after_client(round: int, client: str) -> Callable[[Any], None]:
    """Kill between one client's report and the next client's training."""
    from flames_cli.fed.events import ReportReceived

    def watch(event: Any) -> None:
        if isinstance(event, ReportReceived) and (event.round, event.client) == (round, client):
            die()

    return watch


def after_round(round: int) -> Callable[[Any], None]:
    """Kill after all files of a round are saved."""
    from flames_cli.fed.events import RoundDone

    def watch(event: Any) -> None:
        if isinstance(event, RoundDone) and event.record["round"] == round:
            die()

    return watch


def ahead(modality: str, round: int, held: list[int]) -> Callable[[Any], None]:
    """Kill after a modality's round, while the nodes `held`, of other modalities, have not replied."""
    from flames_cli.fed.engines.inline import InlineGrid
    from flames_cli.fed.events import ModalityDone

    pull = InlineGrid.pull_messages

    def pull_others(self: Any, numbers: Any) -> Any:
        sent = {number: self._waiting[number].metadata for number in numbers if number in self._waiting}
        late = {number for number, one in sent.items() if one.message_type == "train"}
        return pull(self, [one for one in sent if one not in late or sent[one].dst_node_id not in held])

    InlineGrid.pull_messages = pull_others  # type: ignore[method-assign]

    def watch(event: Any) -> None:
        done = isinstance(event, ModalityDone) and (event.modality, event.record["round"])
        if done == (modality, round):
            die()

    return watch


def half_weights(within: str) -> None:
    """Kill when half of a weights file is written, below a folder whose path contains `within`."""
    from flames_cli.store import weights

    pieces = weights._pieces

    def half(path: Path, *rest: Any) -> Any:
        content = b"".join(pieces(path, *rest))
        if within in str(path):
            path.write_bytes(content[: len(content) // 2])
            die()
        yield memoryview(content)

    weights._pieces = half


def move(to: str, when: str) -> None:
    """Kill before or after a file or folder is moved to a path that ends with `to`."""
    replace = pathlib.Path.replace

    def moved(self: Path, target: Any) -> Any:
        ours = str(target).endswith(to)
        if ours and when == "before":
            die()
        result = replace(self, target)
        if ours:
            die()
        return result

    pathlib.Path.replace = moved


def half_removed(name: str) -> None:
    """Kill when half of a folder is deleted whose path contains `name`."""
    remove = shutil.rmtree

    def half(path: Any, *rest: Any, **more: Any) -> None:
        if name in str(path) and Path(path).is_dir():
            files = sorted(one for one in Path(path).rglob("*") if one.is_file())
            for one in files[: len(files) // 2 + 1]:
                one.unlink()
            die()
        remove(path, *rest, **more)

    shutil.rmtree = half


def before_line(round: int) -> None:
    """Kill after a round is blended, before its line."""
    from flames_cli.stages.federate import run_files

    append = run_files.append_round

    def wait(path: Path, record: dict[str, Any]) -> None:
        if record["round"] == round:
            die()
        append(path, record)

    run_files.append_round = wait


def half_line(round: int) -> None:
    """Kill when half of a round's line is written."""
    from flames_cli.store.files import jsonl as lines

    write_all = lines.write_all

    def half(file: Any, data: bytes) -> None:
        if Path(file.name).name == "rounds.jsonl" and json.loads(data)["round"] == round:
            file.write(data[: len(data) // 2])
            die()
        write_all(file, data)

    lines.write_all = half


def after_line(round: int) -> None:
    """Kill between a round's line and its checkpoint."""
    from flames_cli.stages.federate import run_files

    save = run_files.save_state

    def wait(folder: Path, state: Any, *rest: Any) -> Path:
        if state.round == round:
            die()
        return save(folder, state, *rest)

    run_files.save_state = wait


def scored(task: str, done: int) -> Callable[[Any], None]:
    """Kill while models are scored."""

    def watch(progress: Any) -> None:
        if progress == (task, done):
            die()

    return watch


POINTS: dict[str, Callable[..., Any]] = {
    one.__name__: one
    for one in (
        *(ahead, at_step, after_client, after_round, half_weights, move, half_removed),
        *(before_line, half_line, after_line, scored),
    )
}

if __name__ == "__main__":
    main()
