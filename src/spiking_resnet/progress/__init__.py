"""Progress of long work: a bar in a terminal or a notebook, elsewhere a line now and then.

Whoever works tells a `Work` how far it is; one thread draws what is under way. What a work calls
shows nothing of its own, and of the processes of a team the first one speaks. Results never depend
on any of this.
"""

from spiking_resnet.progress.board import draw_on, note, partly, shown
from spiking_resnet.progress.work import Work, duration

__all__ = ["Asked", "Work", "draw_on", "duration", "note", "partly", "shown"]

Asked = bool | None  # what a user may say of progress: None and True show it where that is usual
