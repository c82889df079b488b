"""The attendant of a run: it listens, judges, steers and tells. Screens and headless runs ask it and show."""
