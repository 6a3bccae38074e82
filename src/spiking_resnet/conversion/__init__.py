"""From a graph of an ANN to a spiking one: what is measured, the methods, and their passes."""
