"""One short file a sweep; each defines SWEEP."""
