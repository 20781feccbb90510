"""Compares a sweep with the store: what is missing, and what it costs. No torch."""
