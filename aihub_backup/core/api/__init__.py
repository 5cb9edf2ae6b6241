"""What every part of the REST API stands on: endpoints, bodies, tokens, idempotency, schema."""
