"""Files and streams of other tools, in and out: one module a format, all to and from `foreign.Foreign`; the door for
those that are read is `files.sides_in`."""
