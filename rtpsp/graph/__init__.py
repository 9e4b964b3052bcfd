"""ONNX to ONNX: each pass one pure function, each verified against the graph it replaces."""
