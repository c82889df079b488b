"""Run files: the facts of a run in one SQLite database."""

from llmtop.recording.reader import RunReader
from llmtop.recording.writer import RunWriter, new_run_path

__all__ = ["RunReader", "RunWriter", "new_run_path"]
