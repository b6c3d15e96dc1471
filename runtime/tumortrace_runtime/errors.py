"""Every error that TumorTrace raises on purpose, each with the exit code that a command ends with."""

from __future__ import annotations


class TumorTraceError(Exception):
    """Base of all typed errors. The message says what was given, what was wanted and what to do."""

    exit_code = 1


class InputError(TumorTraceError):
    """What the caller gave cannot be used."""

    exit_code = 2


class ScanError(InputError):
    """A scan or its mask is missing, unreadable, or not what was asked for."""


class NoContrastError(ScanError):
    """A channel has nothing to normalise it by: no foreground, or foreground of one value."""


class DatasetError(InputError):
    """An index or a split does not hold: damaged, of another version, overlapping, or of another data set."""


class SpecError(InputError):
    """A preprocessing, post-processing, model or training setting is unknown or out of range."""


class CheckpointError(InputError):
    """A checkpoint is damaged, incomplete or of another version."""


class BundleError(InputError):
    """A bundle is damaged, incomplete, altered or of another version."""


class ModelError(InputError):
    """A network, or a file with one, is not what an engine can run: damaged, not portable, or out of range."""


class BackendError(InputError):
    """An engine, device or precision that was asked for is not there."""


class OutputError(InputError):
    """A result could not be written: the disk is full, the place is not writable, or already taken."""


class ResourceError(TumorTraceError):
    """This machine has too little memory for what was asked."""


class AccuracyError(TumorTraceError):
    """An accuracy that was required was not reached."""

    exit_code = 3
