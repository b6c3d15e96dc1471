"""Every fuzzed reader takes its good files, and refuses damaged ones with a typed error or not at all."""

from __future__ import annotations
