"""What is predicted, how it is trained and sampled."""
