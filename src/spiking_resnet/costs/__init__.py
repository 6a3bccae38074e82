"""The costs of a network and its run: parameters, synapses, synaptic operations."""
