//! Compares kernels for correctness and throughput.
