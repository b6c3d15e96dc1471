"""DICOM: magnetic resonance series, classic and enhanced, as scans."""

from tumortrace_runtime.io.dicom.geometry import DicomGeometry, Source, StoredSlice, geometry_of

__all__ = ["DicomGeometry", "Source", "StoredSlice", "geometry_of"]
