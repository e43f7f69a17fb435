"""The inventory of the cluster: everything in which it differs from a cloud's."""

import json

from lab.hosts import machine, pager, plan, storage


def write(file, places, credentials, apt_url, cloud):
    """Writes the inventory, as YAML in its JSON form."""
    groups = {}
    for place in places:
        if place.kind in ("database", "service", "monitoring"):
            facts = {"ansible_host": place.address, "address": place.address, "region": place.region, "zone": f"{place.region}{place.zone}"}
            if place.kind in machine.FROM_CLOUD:
                facts |= {"ansible_user": machine.CLOUD_USER, "ansible_become": True}
            if place.kind == "database":
                facts |= {"base_volume": f"/{machine.DATA}", "base_volume_user": "postgres"}
            groups.setdefault(place.kind, {})[place.name] = facts
            groups.setdefault(f"region_{place.region}", {})[place.name] = {}
    common = {
        "ansible_user": "root",
        "ansible_ssh_common_args": " ".join(credentials.ssh_options()),
        "certificates_ca_file": str(credentials.ca),
        "certificates_ca_key_file": str(credentials.ca_key),
        "first_region": plan.FIRST,
        # All hosts share this machine's memory.
        "postgresql_memory_mb": 512,
        "pgbackrest_repositories": {region: repository(region) for region in plan.NETWORKS},
        "region_fence_command": f"{cloud} fence",
        "resize_command": f"{cloud} resize",
        "service_apt_url": apt_url,
        "service_apt_key": credentials.apt_public_key.read_text(),
    }
    children = {group: {"hosts": members} for group, members in groups.items()}
    children["monitoring"]["vars"] = {"monitoring_receivers": pager.RECEIVERS}
    file.write_text(json.dumps({"all": {"vars": common, "children": children}}, indent=2))


def repository(region):
    """A region's bucket; its secrets are in the vault."""
    return {
        "bucket": storage.bucket(region),
        "endpoint": plan.endpoint(region),
        "ca_file": "{{ certificates_folder }}/ca.crt",
        "s3_region": region,
        "cipher_pass": f"{{{{ pgbackrest_cipher_pass_{region} }}}}",
        "key": f"{{{{ pgbackrest_s3_key_{region} }}}}",
        "key_secret": f"{{{{ pgbackrest_s3_secret_{region} }}}}",
    }
