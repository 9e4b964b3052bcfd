"""Labelled images: data sets in files and from the simulator, one sample at a time."""
