"""The cockpit: draws frames and assessments, sends commands. Knows nothing of load, endpoints or simulation."""
