"""Settings as people may see them."""

HIDDEN = "(hidden)"


def without_passwords(settings):
    """The settings with every password hidden."""
    if isinstance(settings, dict):
        return {key: HIDDEN if key == "password" else without_passwords(value) for key, value in settings.items()}
    if isinstance(settings, list):
        return [without_passwords(value) for value in settings]
    return settings


class FilterModule:
    def filters(self):
        return {"without_passwords": without_passwords}
