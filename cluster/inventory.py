"""What the playbooks know of the cluster: all that tells it from one in a cloud."""

import json

import plan


def write(file, credentials, apt_url, fence):
    """Writes the inventory, as YAML in its JSON form."""
    groups = {}
    for place in plan.PLACES.values():
        if place.kind != "balancer":
            facts = {"ansible_host": place.address, "address": place.address, "region": place.region, "zone": f"{place.region}{place.zone}"}
            groups.setdefault(place.kind, {})[place.name] = facts
            groups.setdefault(f"region_{place.region}", {})[place.name] = {}
    common = {
        "ansible_user": "root",
        "ansible_ssh_common_args": " ".join(credentials.ssh_options()),
        "certificates_ca_file": str(credentials.ca),
        "certificates_ca_key_file": str(credentials.ca_key),
        "first_region": plan.FIRST,
        "region_fence_command": fence,
        "service_apt_url": apt_url,
        "service_apt_key": credentials.apt_public_key.read_text(),
    }
    children = {group: {"hosts": members} for group, members in groups.items()}
    file.write_text(json.dumps({"all": {"vars": common, "children": children}}, indent=2))
