"""TensorBoard's event files. The only importer of tensorboardX."""

import os
import time
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar


class Events:
    """TensorBoard's events of one start, written at once: no thread that a full disk could stop.

    Args:
      folder: gets a file.
      start_step: TensorBoard forgets what earlier files say of later steps.
    """

    def __init__(self, folder: Path, start_step: int):
        folder.mkdir(parents=True, exist_ok=True)
        self.writer = EventsWriter(str(folder / "events"), filename_suffix=f".{os.getpid()}")
        start = SessionLog(status=SessionLog.SessionStatus.Value("START"))
        self.writer.write_event(Event(wall_time=time.time(), step=start_step + 1, session_log=start))

    def add(self, values: dict[str, float], step: int) -> None:
        """Writes figures by name."""
        for name, value in values.items():
            self.writer.write_event(Event(wall_time=time.time(), step=step, summary=scalar(name, value)))
        self.writer.flush()

    def close(self) -> None:
        """Closes the file."""
        self.writer.close()
