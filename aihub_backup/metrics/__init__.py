"""What Prometheus asks for: state of the business read from the database at each scrape, and counts of the process."""
