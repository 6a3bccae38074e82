"""When progress is told: seconds, and a share of the work."""

TICK = 0.25  # seconds between two looks at what is under way
PATIENCE = 1.0  # seconds before a bar appears
SILENCE = 5.0  # seconds without a line where there is no terminal
PAUSE = 30.0  # seconds between two lines
LONG = 20.0  # seconds of work that are worth an estimate
ENOUGH = 0.03  # of the work, from which the rest is estimated
