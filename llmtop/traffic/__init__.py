"""What requests a service had: logs and traces of any source, read into one table, and what they are like."""
