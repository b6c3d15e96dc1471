"""From a checkpoint to a bundle: every artefact is measured on held-out cases, and refused if it lost accuracy."""

import tumortrace_runtime  # noqa: F401 - before OpenVINO, whose telemetry it turns off
