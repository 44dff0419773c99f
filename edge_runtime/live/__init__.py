"""A live stream: chunks from a microphone or a pipe, and what is heard in them, now."""
