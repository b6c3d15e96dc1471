from __future__ import annotations

import pytest

from tumortrace_runtime import errors


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (errors.TumorTraceError, 1),
        (errors.InputError, 2),
        (errors.ScanError, 2),
        (errors.DatasetError, 2),
        (errors.SpecError, 2),
        (errors.CheckpointError, 2),
        (errors.BundleError, 2),
        (errors.BackendError, 2),
        (errors.OutputError, 2),
        (errors.AccuracyError, 3),
    ],
)
def test_every_error_ends_a_command_with_its_exit_code(error: type[errors.TumorTraceError], exit_code: int) -> None:
    assert issubclass(error, errors.TumorTraceError)
    assert error.exit_code == exit_code


def test_every_error_has_its_exit_code_tested() -> None:
    (marked,) = test_every_error_ends_a_command_with_its_exit_code.pytestmark
    tested = {error for error, _ in marked.args[1]}

    assert tested == {value for value in vars(errors).values() if isinstance(value, type)}
