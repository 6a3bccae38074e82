"""NIR files: written for several readers, read back, and verified spike for spike."""
