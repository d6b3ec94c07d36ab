"""Live migration: channels, TLS, stream, RAM rounds, the two conductors."""
