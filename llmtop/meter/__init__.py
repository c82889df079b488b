"""Records into figures: bins while the load runs, columns for the analysis, frames for the screen."""
