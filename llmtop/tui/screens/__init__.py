"""The cockpit itself and what lies over it."""
