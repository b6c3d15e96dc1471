"""From a checkpoint to a bundle: every artefact is measured on held-out cases, and refused if it lost accuracy."""
