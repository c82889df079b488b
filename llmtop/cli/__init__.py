"""Commands, exit codes, and the choice between screen and headless."""
