"""Whom a scan shows: said to those who ask for it, and to nobody else."""

from __future__ import annotations

from tumortrace_runtime.io.dicom.derived import from_header, readable
from tumortrace_runtime.io.dicom.geometry import Source

_KEYWORDS = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyDate",
    "StudyInstanceUID",
)


def identity(source: Source) -> dict[str, str]:
    """Patient and study of a series, by the keywords of DICOM's dictionary; "" for what it does not tell."""
    with from_header(source):
        header = readable(source.headers[0])
        return {keyword: str(header.get(keyword, "")) for keyword in _KEYWORDS}
