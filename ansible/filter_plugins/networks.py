"""Which addresses are outside of networks."""

import ipaddress


def outside(addresses, networks):
    """The addresses that are in none of the networks."""
    known = [ipaddress.ip_network(network) for network in networks]
    return [address for address in addresses if not any(ipaddress.ip_address(address) in network for network in known)]


class FilterModule:
    def filters(self):
        return {"outside": outside}
