"""Boards: profiles, predictions, transports and flashing."""
