"""Commands that print figures: ``python -m benchmarks.NAME [--json]``, the JSON object last."""
