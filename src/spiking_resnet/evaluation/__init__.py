"""Evaluating spiking networks: accuracy and cost, comparison of methods, search, diagnosis."""
