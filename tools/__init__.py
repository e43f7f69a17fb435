"""What the areas of the project share."""
