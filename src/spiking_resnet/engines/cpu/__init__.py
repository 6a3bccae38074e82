"""The native engine: populations computed by compiled kernels, with the same spikes."""
