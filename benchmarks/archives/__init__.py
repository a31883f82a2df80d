"""What an engine costs over a loop in one process, and what a second worker gives."""
