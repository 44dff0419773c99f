"""Board profiles and predictions."""
