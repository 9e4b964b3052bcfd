"""What a run tells those who watch it from outside: Prometheus, a health check, systemd."""
