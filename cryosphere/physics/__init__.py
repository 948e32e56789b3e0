"""Image formation as pure functions: tensors in, tensors out; conventions in :mod:`cryosphere.conventions`."""
