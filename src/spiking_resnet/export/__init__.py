"""Exports: a spiking network as a file or program that others run, spike for spike."""
