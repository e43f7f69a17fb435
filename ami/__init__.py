"""The image of a service host: published and rolled out."""
