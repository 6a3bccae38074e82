"""What a network and its run cost: parameters, synapses, synaptic operations."""
