"""Conversion of a graph of an ANN to a spiking one: measuring, the methods, their passes."""
