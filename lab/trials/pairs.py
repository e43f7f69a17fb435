"""Which pairs of faults there are, and why others make no sense."""

import itertools

from lab.trials import faults
from lab.trials.operations import Operation, RollOut
from lab.trials.pair import AT_ONCE, MOMENTS, RECOVERY, Pair

# What takes a region away from its clients, or both.
WHOLE_REGION = (faults.RegionLost, faults.RegionCut, faults.RegionPowerLost)
# Needs no command of the operator on a host: it comes with the power, or from the cloud.
UNCOMMANDED = (faults.HostKilled, faults.HostFrozen, faults.ZoneCut)
# After these a member is missing, or cannot be reached.
MEMBER = (faults.HostKilled, faults.HostFrozen, faults.ZoneCut, faults.ReplicaKilled, faults.DamagedPage, faults.EtcdMajorityLost)
# The short form: it is in the suite.
SHORT = [
    ("bucket-lost", "host-killed", AT_ONCE),
    ("backup", "switchover", AT_ONCE),
    ("region-cut", "host-killed", AT_ONCE),
]


def reason(first, second, moment):
    """Why a pair is left out; none if it is not."""
    if first is second and first is not faults.HostKilled:
        return "the same fault twice is one fault"
    if second is RollOut:
        return "a roll-out takes minutes: what happens to it begins after it"
    if issubclass(first, WHOLE_REGION) and issubclass(second, WHOLE_REGION):
        return "one of two regions must remain for the clients; both without power is a fault of its own"
    if first is faults.PowerLost and moment != RECOVERY:
        return "nothing runs that it could happen to"
    if first is faults.RegionPowerLost and moment != RECOVERY:
        return "no host of the region runs, and no other was promoted"
    if not first.reachable and moment != RECOVERY and second not in UNCOMMANDED:
        return "no command of the operator arrives behind the cut"
    if not second.reachable and first is RollOut:
        return "a roll-out reaches no host behind the cut, and its clients are not there"
    if second.place and first.passes and issubclass(first, Operation):
        return "the playbook reaches no host behind the cut: region-lost tries that"
    if second is faults.Switchover and (issubclass(first, MEMBER) or issubclass(first, WHOLE_REGION)):
        return "a switchover refuses a region that is not whole: nothing would begin"
    if issubclass(first, Operation) and issubclass(second, Operation):
        return None if {first, second} & {faults.Backup} else "two playbooks of one operator"
    if first.passes and moment not in (AT_ONCE, RECOVERY):
        return "it has passed by then"
    return None


ALL = [
    (first.name, second.name, moment)
    for first, second, moment in itertools.product(faults.TABLE.values(), faults.TABLE.values(), MOMENTS)
    if not reason(first, second, moment)
]


def draw(chance, count):
    """So many pairs, each another one as long as there are others."""
    drawn = []
    while len(drawn) < count:
        drawn += chance.sample(ALL, min(len(ALL), count - len(drawn)))
    return drawn


def make(cluster, names, choice):
    """The pair of these names, on a cluster where its first fault can begin."""
    first, second, moment = names
    kinds = faults.TABLE[first], faults.TABLE[second]
    kinds[0].prepare(cluster)
    return Pair(cluster, kinds, moment, choice)
