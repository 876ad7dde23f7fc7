"""Known attacks on training data, one module each, written from their papers.

Every attack is a pure function of arrays or frames, parameters and a seed, and returns the poisoned data with a boolean
truth, one per record. Records it did not choose come back as they were. `rate` is always a share of the whole batch.
"""
