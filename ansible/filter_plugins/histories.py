"""Where the history of each host parted from the one that a region writes; see the module wal_history."""


def shared(mine, theirs):
    """The ends of what two chains of timelines have in common by their numbers, which need not be the same history."""
    ends = []
    for one, other in zip(mine, theirs, strict=False):
        if (one["timeline"], one["begin"]) != (other["timeline"], other["begin"]):
            break
        ends.append(min(one["end"], other["end"]))
    return ends


def ends(hosts, reference):
    """The positions before which all hosts and the reference must be compared."""
    return sorted({end for host in hosts.values() for end in shared(host["timelines"], reference["timelines"])})


def forks(hosts, reference):
    """By host: where it parted from the reference, whether it holds WAL beyond that, and whether it must be copied.

    The fork is none where the WAL that could tell is gone. Only what Patroni and pg_rewind find by numbers too may be rewound.
    """
    found = {name: judge(host, [reference], reference) for name, host in hosts.items()}
    # What the reference has not kept any more may be compared with another host that proved to share its history.
    for name, host in hosts.items():
        if found[name]["fork"] is None and host["timelines"]:
            proven = [dict(hosts[other], until=found[other]["fork"]) for other in hosts if found[other]["fork"]]
            found[name] = judge(host, [reference, *proven], reference)
    return found


def judge(host, witnesses, reference):
    mine, theirs = host["timelines"], reference["timelines"]
    if host.get("empty"):
        return {"fork": 0, "beyond": False, "copy": True}
    common = shared(mine, theirs)
    for index in reversed(range(len(common))):
        same = compare(host, witnesses, common[index])
        if same is None:
            break
        if same:
            beyond = mine[-1]["end"] > common[index]
            # By the number of the timeline alone they find nothing to rewind where the other history has the same number.
            is_ancestor = len(mine) == index + 1 < len(theirs)
            is_unique = mine[-1]["timeline"] not in [one["timeline"] for one in theirs]
            rewinds = index == len(common) - 1 and (is_ancestor or is_unique)
            return {"fork": common[index], "beyond": beyond, "copy": beyond and not rewinds}
    return {"fork": None, "beyond": True, "copy": True}


def compare(host, witnesses, end):
    """Whether a host has the same WAL before a position as a witness that has it; none if nobody can tell."""
    mine = host["digests"].get(str(end))
    if mine is None:
        return None
    for witness in witnesses:
        theirs = witness["digests"].get(str(end))
        if theirs is not None and witness.get("until", end) >= end:
            return mine == theirs
    return None


def begun(timelines, promotions, hosts):
    """The timelines that the hosts of a region began, by Patroni's list of promotions: one that it saw itself has a time and a leader.

    The last one of a region that takes writes is always its own.
    """
    own = {int(timeline) + 1 for timeline, _, _, *seen in promotions if len(seen) == 2 and seen[1] in hosts}
    return sorted(own | {timelines[-1]["timeline"]})


class FilterModule:
    def filters(self):
        return {"history_ends": ends, "history_forks": forks, "history_begun": begun}
