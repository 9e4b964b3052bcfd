"""Parts of ``bench/gpu_check.py``: each runs in a process of its own and gives plain JSON values."""
