"""What the finished artefacts come to: all timed in one run, what is preferred, and the test cases, scored once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from tumortrace.model import channels_last
from tumortrace.predict import TorchNetwork
from tumortrace_export import int8
from tumortrace_export.artefacts import Writer
from tumortrace_export.assess import (
    Accuracy,
    Outcome,
    expect,
    measure_case,
    outcome_of_reference,
    summarise,
    time_networks,
)
from tumortrace_export.assessor import Assessor
from tumortrace_export.golden import write_golden
from tumortrace_export.job import Job
from tumortrace_export.rows import PYTORCH, PYTORCH_NHWC, Exported, Row, make_rows
from tumortrace_runtime.backends import Backend
from tumortrace_runtime.backends.backend import mac_share
from tumortrace_runtime.bench.timing import Timing
from tumortrace_runtime.bundle import NARROW_WEIGHTS
from tumortrace_runtime.inference import Network

WANTED_INT8_SHARE = 0.95


def conclude(
    job: Job,
    writer: Writer,
    assessor: Assessor,
    found: int8.Found | None,
    keep_float: Sequence[str],
) -> Exported:
    """Time everything in one run, score the test cases once, and write the golden inputs."""
    with ExitStack() as stack:
        backends = {
            f"{backend} {precision}": stack.enter_context(assessor.load(backend, precision))
            for backend, precision in assessor.choices()
        }
        without = {
            name: stack.enter_context(assessor.load_first(backend.name))
            for name, backend in backends.items()
            if found is not None and found.float_layers and name.endswith(" int8")
        }
        timings = _time(job, assessor, backends, without)
        preferred = _preferred(job, assessor, timings)
        test = _score_test(job, assessor, _deployed(backends))
        write_golden(writer.folder, backends, job.spec, job.postprocessing)
        rows = make_rows(writer, backends, assessor.accuracies, timings)
        _report_float_layers(job, rows, found)
    return Exported(
        rows=rows,
        preferred=preferred,
        int8=found,
        fp16_float_layers=list(keep_float),
        without_fallback={name: timings[_without_fallback(name)] for name in without},
        test=test,
        integer_inputs=dict(writer.integer_inputs),
    )


def _report_float_layers(job: Job, rows: Sequence[Row], found: int8.Found | None) -> None:
    """Say where an engine computes layers in float that the model has in INT8."""
    for row in rows:
        share = mac_share(row.layers, "int8")
        if row.precision == "int8" and row.layers and found and not found.float_layers and share < WANTED_INT8_SHARE:
            names = ", ".join(layer.name for layer in row.layers if layer.precision != "int8")
            job.report(f"{row.name}: only {share:.1%} of the multiply-accumulates run in INT8; in float: {names}")


def _time(
    job: Job, assessor: Assessor, backends: Mapping[str, Backend], without: Mapping[str, Backend]
) -> dict[str, Timing]:
    networks: dict[str, Network] = {
        PYTORCH: TorchNetwork(job.checkpoint.network()),
        PYTORCH_NHWC: TorchNetwork(channels_last(job.checkpoint.network())),
        **backends,
        **{_without_fallback(name): backend for name, backend in without.items()},
    }
    job.report(f"timing {len(networks)} networks")
    return time_networks(networks, assessor.expected[0].case, job.spec.context)


def _without_fallback(name: str) -> str:
    return f"{name}, no layer in float"


def _preferred(job: Job, assessor: Assessor, timings: Mapping[str, Timing]) -> dict[str, str]:
    """The fastest precision of each engine that holds the gate; says so where it is not INT8."""
    held: dict[str, dict[str, float]] = {}
    for backend, precision in assessor.choices():
        name = f"{backend} {precision}"
        if not precision.endswith(NARROW_WEIGHTS) and not assessor.gate.fault(name, assessor.accuracies[name]):
            held.setdefault(backend, {})[precision] = timings[name].median_ms
    preferred = {backend: min(times, key=times.__getitem__) for backend, times in held.items()}
    for backend, fastest in preferred.items():
        if "int8" in held[backend] and fastest != "int8":
            job.report(
                f"{backend}: int8 ({held[backend]['int8']:.2f} ms per slice) is not faster than {fastest} "
                f"({held[backend][fastest]:.2f} ms) on this machine; {fastest} is marked as preferred."
            )
    return preferred


def _deployed(backends: Mapping[str, Backend]) -> dict[str, Backend]:
    """The narrowest artefact of each engine, by name; not what timing prefers, which may differ from run to run."""
    own = [name for name in backends if not name.endswith((NARROW_WEIGHTS, " bf16"))]  # bf16 runs the file of FP16
    last = {name.split()[0]: name for name in own}  # the widest come first
    return {name: backends[name] for name in last.values()}


def _score_test(job: Job, assessor: Assessor, deployed: Mapping[str, Backend]) -> dict[str, Accuracy]:
    """PyTorch and what is deployed on each engine, once, on the test cases: for the record, decided by nothing."""
    if not job.cases.test:
        return {}
    job.report(f"scoring {len(job.cases.test)} test cases, for the record")
    reference = TorchNetwork(channels_last(job.checkpoint.network()))
    outcomes: dict[str, list[Outcome]] = {name: [] for name in (PYTORCH, *deployed)}
    for case in job.prepared(job.cases.test):
        expected = expect(reference, case, job.spec, job.postprocessing, assessor.small_voxels)
        outcomes[PYTORCH].append(outcome_of_reference(expected))
        for name, backend in deployed.items():
            outcomes[name].append(measure_case(backend, expected, job.spec, job.postprocessing))
    return {name: summarise(found) for name, found in outcomes.items()}
