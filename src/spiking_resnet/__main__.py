"""`python -m spiking_resnet`: the command line without an installed script."""

from spiking_resnet.cli import app

app(prog_name="spiking-resnet")
