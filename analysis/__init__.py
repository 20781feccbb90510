"""From the tidy table of a scaling study to its figures, statistics and report; knows the CSV, not the harness."""
