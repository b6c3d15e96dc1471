"""Brain-like MR volumes with lesions whose truth is known."""

from tumortrace.phantom.dicom import DicomForm
from tumortrace.phantom.generate import LesionTruth, Phantom, generate_case, generate_phantom
from tumortrace.phantom.write import claim_folder, write_phantom

__all__ = ["DicomForm", "LesionTruth", "Phantom", "claim_folder", "generate_case", "generate_phantom", "write_phantom"]
