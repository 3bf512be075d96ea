"""What is counted, in memory that outlives the processes that count, and shown to Prometheus."""
