"""How figures, names and verdicts are written: once for the screen, the report, the summary and the JSON alike."""
