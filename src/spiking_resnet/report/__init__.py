"""What a reader sees of measurements: tables and figures."""
