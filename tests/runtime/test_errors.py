from __future__ import annotations

import pytest

from tumortrace_runtime import errors

EXIT_CODES = {
    errors.TumorTraceError: 1,
    errors.InputError: 2,
    errors.ScanError: 2,
    errors.NoContrastError: 2,
    errors.DatasetError: 2,
    errors.SpecError: 2,
    errors.CheckpointError: 2,
    errors.BundleError: 2,
    errors.ModelError: 2,
    errors.BackendError: 2,
    errors.OutputError: 2,
    errors.ResourceError: 1,
    errors.AccuracyError: 3,
}


@pytest.mark.parametrize("error", [value for value in vars(errors).values() if isinstance(value, type)])
def test_every_error_ends_a_command_with_the_exit_code_that_is_promised(error: type[errors.TumorTraceError]) -> None:
    assert issubclass(error, errors.TumorTraceError)
    assert error.exit_code == EXIT_CODES[error]
