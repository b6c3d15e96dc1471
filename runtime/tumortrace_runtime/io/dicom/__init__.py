"""DICOM: magnetic resonance studies, classic and enhanced, as scans."""

from tumortrace_runtime.io.dicom.geometry import DicomGeometry, Source, StoredSlice, geometry_of
from tumortrace_runtime.io.dicom.layout import WANTED, find, read, write_case, write_mask

__all__ = [
    "WANTED",
    "DicomGeometry",
    "Source",
    "StoredSlice",
    "find",
    "geometry_of",
    "read",
    "write_case",
    "write_mask",
]
