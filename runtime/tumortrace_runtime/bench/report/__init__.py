"""Results as one page that needs nothing else: no network, no script, no font."""

from tumortrace_runtime.bench.report.page import Picture, make_page

__all__ = ["Picture", "make_page"]
