"""Section speed: images a second by setup, beside the authors' way and the toolkit's own."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch.utils.flop_counter import FlopCounterMode

from flames_cli.learn.training_loss import training_loss
from gpu_parts.inputs import DENSENET, TOY, UNET, Job, draw_batch, main_job
from gpu_parts.loops import run_plain, run_toolkit
from gpu_parts.meter import HEAD, Meter, Row, cells, describe, images_s
from gpu_parts.running import Clock, OutOfTimeError, Run, align, time_limit
from gpu_parts.setups import COMPILED, EAGER, RECORDED, Setup, Trainer
from gpu_parts.timing import clear, halving, median_seconds, peak_gb, reset_peak, wall_seconds

SECONDS = 1.0
"""Seconds of each timing."""

DENSENET_SHARE = 0.75
"""Share of the section's time for the paper's model."""

COMPILE_S = 45.0
"""A compilation is not begun with less time left."""


def measure(run: Run, clock: Clock) -> list[str]:
    """Measure every job in every setup for which there is time."""
    jobs = (TOY,) if run.toy else (DENSENET, UNET)
    figures, lines = run.figures.setdefault("speed", {}), []
    for number, job in enumerate(jobs):
        counted = count_gflop(job, run.device)
        meter = Meter(job.gflop or counted, run.figures.get("card", {}).get("roofs", {}))
        run.say(
            f"{job.model}, {job.size}×{job.size}, batch {job.batch}: GFLOP an image forward and backward "
            f"{counted[0]:.4g} counted, {meter.gflop[0]:.4g} taken; forward {counted[1]:.4g} and "
            f"{meter.gflop[1]:.4g}"
        )
        own = clock if number == len(jobs) - 1 else clock.part(DENSENET_SHARE)
        bench = Bench(job, run, own, clock, meter)
        figures[job.model] = {"gflop_counted": counted, "gflop_taken": meter.gflop, "rows": bench.rows}
        bench.measure()
        figures[job.model]["best"] = max(bench.rows, key=images_s, default={}).get("setup")
        lines += [f"{job.model} {job.size}×{job.size}", *align([HEAD, *map(cells, bench.rows)])]
    return lines


@dataclass(slots=True)
class Bench:
    """One model's measurements; each may fail, or run out of its time, without the others."""

    job: Job
    run: Run
    clock: Clock
    """Clock of this model."""
    whole: Clock
    """Clock of the section."""
    meter: Meter
    rows: list[Row] = field(default_factory=list)

    def measure(self) -> None:
        """Measure complete loops first, then the steps alone, then what has to be compiled."""
        for name, loop in (("authors' way", run_plain), ("toolkit, end to end", run_toolkit)):
            self._attempt(name, partial(self._measure_loop, loop))
        for setup in (*RECORDED, *reversed(EAGER)):
            self._attempt(setup.name, partial(self._measure_setup, setup))
        for setup in COMPILED:
            self._attempt(setup.name, partial(self._measure_setup, setup), COMPILE_S)
        if self.run.device.type == "cuda":
            loop = partial(run_toolkit, compile="on")
            self._attempt("toolkit, end to end, compiled", partial(self._measure_loop, loop), COMPILE_S)

    def _attempt(self, name: str, work: Callable[[int], None], needed: float = 0.0) -> None:
        """Do `work` at the job's batch size, or at half of it and so on; where it fails, say so."""
        run, left = self.run, self.clock.left()
        if left < (0.0 if run.toy else needed):
            run.say(f"  {name}: left out, {left:.0f} s are left")
            return
        try:
            with time_limit(left + 5):
                halving(work, self.job.batch, run.say)
        except Exception as error:
            self.rows.append({"setup": name, "failed": f"{type(error).__name__}: {error}"[:300]})
            run.say(f"  {name} FAILED:\n{''.join(traceback.format_exception(error)[-6:])}")
            if isinstance(error, OutOfTimeError) and self.whole.left() <= 0:
                raise
        clear()

    def _measure_loop(self, loop: Callable[[Job, Run, Meter], Row], batch: int) -> None:
        self._note([loop(self.job.with_batch(batch), self.run, self.meter)])

    def _measure_setup(self, setup: Setup, batch: int) -> None:
        """Time training with each of the setup's optimisers, and prediction once."""
        job, run = self.job.with_batch(batch), self.run
        with setup.settings():
            reset_peak(run.device)
            trainer = Trainer(job, setup, run.device)
            first = wall_seconds(trainer.step, run.device)
            found = [self._measure_training(trainer, job, setup, fused, first) for fused in setup.fused]
            self._note(found)
            self._remember_best(setup, found)
            predicting = self._measure_prediction(trainer, job, setup)
        for row in found:
            row |= predicting
        run.say(f"    predicting: {predicting}")

    def _note(self, rows: list[Row]) -> None:
        self.rows += rows
        for row in rows:
            self.run.say(f"  {row['setup']}: {describe(row)}")

    def _remember_best(self, setup: Setup, found: list[Row]) -> None:
        """Keep the fastest setup of the main model."""
        if self.job.model != main_job(self.run.toy).model:
            return
        for row in found:
            if self.run.best is None or row["images_s"] > self.run.best[0]:
                self.run.best = (row["images_s"], setup, row["fused"], row["batch"])

    def _measure_training(self, trainer: Trainer, job: Job, setup: Setup, fused: bool, first: float) -> Row:
        trainer.use_adam(fused)
        seconds = median_seconds(trainer.step, self.run.device, 0 if self.run.toy else SECONDS)
        return {
            "setup": setup.name + (", fused Adam" if fused else ""),
            "fused": fused,
            "batch": job.batch,
            "images_s": job.batch / seconds,
            "step_ms": seconds * 1000,
            "first_step_s": first,
            "peak_gb": peak_gb(self.run.device),
            **self.meter.rate(job.batch / seconds, setup.roof),
        }

    def _measure_prediction(self, trainer: Trainer, job: Job, setup: Setup) -> Row:
        """Time prediction; compiled models have to be compiled for it once more."""
        trainer.optimiser.zero_grad(set_to_none=True)
        trainer.model.eval()
        try:
            first = wall_seconds(trainer.predict, self.run.device)
            seconds = median_seconds(trainer.predict, self.run.device, 0 if self.run.toy else SECONDS / 2)
        except Exception as error:
            if isinstance(error, OutOfTimeError) and self.whole.left() <= 0:
                raise
            return {"predicting_failed": f"{type(error).__name__}: {error}"[:300]}
        rate = self.meter.rate(job.batch / seconds, setup.roof, training=False)
        return {
            "predicted_images_s": job.batch / seconds,
            "predicted_tflop_s": rate["tflop_s"],
            "predicted_share": rate["share"],
            "predicted_first_s": first,
        }


def count_gflop(job: Job, device: torch.device) -> tuple[float, float]:
    """Count what an image costs in GFLOP: forward and backward, and forward alone.

    A multiplication and an addition are two. Counted on a batch of two in float32.
    """
    model = job.build().to(device)
    images, masks = draw_batch(job.size, 2, device)
    with FlopCounterMode(display=False) as both:
        training_loss(model, images, masks).backward()
    with torch.no_grad(), FlopCounterMode(display=False) as forward:
        model(images)
    return both.get_total_flops() / 2e9, forward.get_total_flops() / 2e9
