"""Reports for people: tables, pictures, the state of a cluster."""
