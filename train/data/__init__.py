"""Public collections of recordings: their layouts, where they come from, how they are fetched and checked."""
