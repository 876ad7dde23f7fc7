"""Lazaretto keeps poisoned records out of training data."""
