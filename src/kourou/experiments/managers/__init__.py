"""Managers: several fits of one agent, or of many, repeated, seeded, on disk and comparable."""
