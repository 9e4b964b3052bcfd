"""Tests that need an NVIDIA GPU, or the driver's double where TensorRT has no part in them.

They run without the rest of the tests' set-up, which wants packages that a GPU machine need not have:

    python -m pytest -m gpu --confcutdir=tests/gpu tests/gpu
"""
