"""DICOM: magnetic resonance studies, classic and enhanced, as scans, and what is derived from them."""

from tumortrace_runtime.io.dicom.geometry import DicomGeometry, Source, StoredSlice, geometry_of
from tumortrace_runtime.io.dicom.layout import WANTED, find, read, write_case
from tumortrace_runtime.io.dicom.writing import prepare_writing, write_mask, write_overlay

__all__ = [
    "WANTED",
    "DicomGeometry",
    "Source",
    "StoredSlice",
    "find",
    "geometry_of",
    "prepare_writing",
    "read",
    "write_case",
    "write_mask",
    "write_overlay",
]
