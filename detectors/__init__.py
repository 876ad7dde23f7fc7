"""Detectors of poisoned records: one module each, their shared views beside them."""
