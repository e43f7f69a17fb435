#!/usr/bin/python3
"""Shows what a later task changes, as --diff shows files; changes nothing itself."""

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: shown_change
short_description: Shows the difference between two sets of settings
options:
  subject: {description: What the settings are of, required: true, type: str}
  before: {description: The settings that there are, required: true, type: dict}
  after: {description: The settings that there will be, required: true, type: dict}
author: [dob-api]
"""


def lines(settings, path=()):
    """Each setting as a line with its whole name: a line of a difference is understood alone."""
    for key in sorted(settings, key=str):
        if isinstance(settings[key], dict):
            yield from lines(settings[key], (*path, str(key)))
        elif settings[key] is not None:
            yield f"{'.'.join((*path, str(key)))}: {settings[key]}\n"


def main():
    arguments = {"subject": {"type": "str", "required": True}} | {name: {"type": "dict", "required": True} for name in ("before", "after")}
    module = AnsibleModule(arguments, supports_check_mode=True)
    before, after = ("".join(lines(module.params[name])) for name in ("before", "after"))
    header = module.params["subject"]
    difference = {"before": before, "after": after, "before_header": header, "after_header": header}
    # What changes something says so itself, but it does not run in a check.
    module.exit_json(changed=module.check_mode and before != after, diff=difference)


if __name__ == "__main__":
    main()
