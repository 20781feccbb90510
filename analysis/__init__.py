"""Figures, statistics and report of a study from its tidy table; knows the CSV, not the harness."""
