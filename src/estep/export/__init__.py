"""A policy that leaves the library: as NumPy, ONNX or a JAX program, and as one file to share."""
