"""Messages and services, generated from the files under ``proto/`` by ``make proto``."""
