"""The wish against the files: what is missing, what it costs. No torch."""
