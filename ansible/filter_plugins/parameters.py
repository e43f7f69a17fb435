"""Parameters of PostgreSQL as an inventory has them."""


def is_plain(name, value):
    """Whether a parameter fits on a line of its own."""
    return isinstance(value, (str, int, float)) and not set("=\n") & set(name) and "\n" not in str(value)


class FilterModule:
    def filters(self):
        return {
            "nested_parameters": lambda given: sorted(name for name, value in given.items() if not is_plain(name, value)),
            "parameter_lines": lambda given: "".join(f"{name}={value}\n" for name, value in given.items()),
        }
