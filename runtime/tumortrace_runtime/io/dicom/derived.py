"""What everything that is derived from a series has in common: identifiers, dates, and whose it is."""

from __future__ import annotations

import logging
import re
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from tumortrace_runtime.algorithm import LONG, Algorithm, fingerprint, plain_text
from tumortrace_runtime.errors import ScanError, TumorTraceError
from tumortrace_runtime.io.dicom.geometry import Source
from tumortrace_runtime.libraries import import_library
from tumortrace_runtime.version import __version__

RESEARCH = "Research output, not a medical device"

MANUFACTURER = "TumorTrace"

NO_DATE = "19000101"
"""Stands where a date must, and the source has none."""

_UIDS = uuid.UUID("0f5a3c86-6d1b-5b0e-9a51-1d8a37f0c2e4")
_DATES = ("Content", "Acquisition", "Series", "Study")
_UTF_8 = "ISO_IR 192"
_UNDECODABLE = "\N{REPLACEMENT CHARACTER}"
"""What pydicom puts in the place of a byte that the character set has not."""
_TIME = re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?")
_OF_THE_CLOCK = (
    "InstanceCreationDate",
    "InstanceCreationTime",
    "DateOfSecondaryCapture",
    "TimeOfSecondaryCapture",
)


def derived_uid(*parts: str) -> str:
    """The UID that follows from `parts`: below 2.25, of a UUID (DICOM PS3.5, B.2), version 5."""
    return f"2.25.{uuid.uuid5(_UIDS, ' '.join(f'{len(part)}:{part}' for part in parts)).int}"


def series_uid(kind: str, sources: Sequence[Source], algorithm: Algorithm) -> str:
    """The series for what `algorithm` makes of these images; `kind` tells several such series apart."""
    images = [f"{each.sop_instance_uid}#{each.frame or ''}" for source in sources for each in source.slices]
    return derived_uid(kind, fingerprint(algorithm), *images)


def equipment(algorithm: Algorithm) -> dict[str, Any]:
    """What highdicom asks for of the device that made an instance: here, the model."""
    return {
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": text(algorithm.name),
        "device_serial_number": text(algorithm.version),
        "software_versions": f"{MANUFACTURER} {__version__}",
    }


def content_moment(header: Any) -> dict[str, str]:
    """Content date and time of what is made of an image: the image's own, so that a repeat has the same.

    They are the first pair of content, acquisition, series and study that holds; `NO_DATE` where none does.
    """
    for kind in _DATES:
        date, time = (str(header.get(f"{kind}{what}", "")) for what in ("Date", "Time"))
        if _is_date(date):
            return {"content_date": date, "content_time": time if _TIME.fullmatch(time) else "000000"}
    return {"content_date": NO_DATE, "content_time": "000000"}


def finish(dataset: Any, source: Source) -> None:
    """Give a new instance the source's patient and study, as UTF-8, and take from it what only the clock says."""
    for keyword in _OF_THE_CLOCK:
        if keyword in dataset:
            delattr(dataset, keyword)
    for item in dataset.get("ContributingEquipmentSequence", ()):
        item.pop("ContributionDateTime", None)
    header = readable(source.headers[0])
    dataset.copy_patient_and_study_information(header)
    dataset.StudyInstanceUID = source.study_uid
    dataset.SpecificCharacterSet = _UTF_8


def save(dataset: Any, source: Source, path: Path) -> None:
    """Write a finished instance.

    Raises:
        ScanError: what it has of the source's header cannot be written.
    """
    with from_header(source):
        dataset.save_as(path, enforce_file_format=True)


def readable(header: Any) -> Any:
    """The elements of a header that can be decoded, and are of the kind that DICOM's dictionary says."""
    kept = import_library("pydicom").Dataset()
    kind_of = import_library("pydicom.datadict").dictionary_VR
    for tag in header.keys():  # noqa: SIM118  # iterating a dataset would decode
        try:
            element = header[tag]
            decoded = element.VR == "SQ" or _UNDECODABLE not in str(element.value)
            if decoded and kind_of(tag) == element.VR:
                kept[tag] = element
        except Exception:  # pydicom raises almost anything for a value that its representation does not allow
            continue
    return kept


def image_references(source: Source) -> list[Any]:
    """Items that refer to the images of a series, each once."""
    uids = dict.fromkeys(each.sop_instance_uid for each in source.slices)
    return [
        dataset_of({"ReferencedSOPClassUID": source.sop_class_uid, "ReferencedSOPInstanceUID": uid}) for uid in uids
    ]


def dataset_of(values: Mapping[str, Any]) -> Any:
    """A pydicom dataset of values by keyword."""
    dataset = import_library("pydicom").Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def text(value: str) -> str:
    """A text as the value representation LO holds it."""
    return plain_text(value)[:LONG]


@contextmanager
def from_header(source: Source) -> Iterator[None]:
    """Where a source's header is used: nothing of it is printed, and what cannot be used of it is a typed error.

    pydicom warns of values that it finds odd, logs them, and raises almost anything; each may tell a patient's name.

    Raises:
        ScanError: something was raised.
    """
    log = logging.getLogger("pydicom")
    was_disabled, log.disabled = log.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (TumorTraceError, MemoryError, OSError):
        raise
    except Exception as problem:
        told = f"its header cannot go into what is made of it ({type(problem).__name__}); it is damaged."
        raise ScanError(f"series …{source.series_uid[-12:]}: {told}") from problem
    finally:
        log.disabled = was_disabled


def _is_date(value: str) -> bool:
    try:
        return datetime.strptime(value, "%Y%m%d").strftime("%Y%m%d") == value
    except ValueError:
        return False
