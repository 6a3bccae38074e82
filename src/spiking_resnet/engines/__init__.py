"""Engines: ways to run a spiking network that give the spikes `interpret` defines."""
