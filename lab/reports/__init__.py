"""What a person reads: tables, pictures, the state of a cluster."""
