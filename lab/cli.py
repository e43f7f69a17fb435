"""Runs a cluster of booted Debian hosts on this machine, and injects faults."""

import argparse
import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time

from lab.hosts import nspawn, plan
from lab.hosts.cluster import Cluster, Run, Unusable
from lab.reports import status, watch
from lab.trials import campaign, failbacks, kills, rehearsal
from tools import TOP
from tools.arguments import Parser

# Between two looks at the whole cluster, which cost the machine more than they take.
PACE_S = 2
VENV = pathlib.Path(sys.prefix)


def tell(text):
    print(f"cluster: {text}", file=sys.stderr, flush=True)


def current():
    """The cluster that this checkout has up."""
    nspawn.sweep()
    if named := os.environ.get("CLUSTER_RUN"):
        return Cluster(Run(pathlib.Path(named)), VENV)
    for kept in nspawn.RUNS.glob("*/kept"):
        if kept.read_text() == str(TOP):
            return Cluster(Run(kept.parent), VENV)
    raise Unusable("no cluster is up: start one with './dev cluster up'")


def host(cluster, name):
    if name not in cluster.machines:
        raise Unusable(f"there is no host '{name}': choose one of {', '.join(cluster.machines)}")
    return cluster.machines[name]


def up(_):
    with contextlib.suppress(Unusable):
        raise SystemExit(f"cluster: one is up already, in {current().run.folder}: './dev cluster down' ends it")
    begun = time.monotonic()
    run = Run()
    with contextlib.ExitStack() as undo:
        undo.push(run)
        cluster = Cluster(run, VENV)
        cluster.make(tell)
        site = cluster.playbook("site.yml", check=False)
        run.keep()
        undo.pop_all()
    if site.returncode != 0:
        raise Unusable("site.yml failed, see above; the hosts stay up: './dev cluster play site.yml' runs it again, 'down' ends them")
    tell(f"up after {time.monotonic() - begun:.0f} s; './dev cluster status' shows it")
    print(status.show(cluster))


def down(_):
    folder = current().run.folder
    # Its lock goes with its processes: somebody else's sweep must not remove it at the same time.
    with nspawn.registry():
        nspawn.remove(folder)


def show(arguments):
    cluster = current()
    if not arguments.watch:
        print(status.show(cluster))
        return
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            text = status.show(cluster)
            # From the top of an empty screen, in one piece.
            print(f"\x1b[H\x1b[2J{text}\n\nCtrl-C ends this", flush=True)
            # The refresh interval of the display, not a wait for anything.
            time.sleep(PACE_S)


def logs(arguments):
    cluster = current()
    command = cluster.ssh_command(watch.monitor(arguments.region), watch.search(arguments.words))
    os.execvp("nsenter", [*cluster.cloud.at_operator(), *command])


def ssh(arguments):
    cluster = current()
    host(cluster, arguments.host)
    command = cluster.ssh_command(arguments.host, *arguments.command)
    os.execvp("nsenter", [*cluster.cloud.at_operator(), *command])


def play(arguments):
    """As './dev play' does it for hosts of the cloud, with the lock on the hosts."""
    cluster = current()
    command = (TOP / "ansible/play", arguments.playbook, "--vault-password-file", cluster.credentials.vault_password, *arguments.arguments)
    told = {"PLAY_INVENTORY": str(cluster.inventory), "XDG_CACHE_HOME": str(VENV.parents[1]), "USER": os.environ.get("USER", "root")}
    code = cluster.operator(*command, env=cluster.environment() | told).returncode
    if code != 0:
        raise Unusable(f"{arguments.playbook} failed, see above")


def kill(arguments):
    machine = host(current(), arguments.host)
    if not machine.is_up():
        raise Unusable(f"{machine.name} is down: './dev cluster boot {machine.name}' starts it")
    machine.kill()


def fence(arguments):
    host(current(), arguments.host).kill()


def resize(arguments):
    """Prints the same as the program that does this in a cloud."""
    machine = host(current(), arguments.host)
    old, new = machine.size(), machine.size("wanted")
    if old == new and (arguments.look or machine.is_running()):
        print(f"{machine.name} has size {new or 'unlimited'}")
        return
    said = f"from {old or 'unlimited'} to {new or 'unlimited'}"
    if arguments.look:
        print(f"{machine.name} changes {said}")
        return
    if machine.is_running():
        machine.shut_down()
    machine.give(new)
    # It returns once the host runs, long before it answers.
    machine.start()
    print(f"{machine.name} changed {said}")


def boot(arguments):
    machine = host(current(), arguments.host)
    if machine.is_up():
        raise Unusable(f"{machine.name} is up: './dev cluster kill {machine.name}' ends it")
    machine.boot()


def replace(arguments):
    cluster = current()
    machine = host(cluster, arguments.host)
    if machine.place.kind == "balancer":
        raise Unusable(f"{machine.name} is not managed by the playbooks, so they could not restore it: replace a database or a service host")
    cluster.replace(machine)
    tell(f"{machine.name} is up with an empty disk: './dev cluster play site.yml' sets it up again")


def add(arguments):
    cluster = current()
    if arguments.host not in plan.SPARES or arguments.host in cluster.machines:
        left = [name for name in plan.SPARES if name not in cluster.machines]
        raise Unusable(f"'{arguments.host}' cannot be added: {'choose one of ' + ', '.join(left) if left else 'all hosts are there already'}")
    cluster.add(plan.SPARES[arguments.host])
    tell(f"{arguments.host} is up: './dev cluster play add-host.yml -e target_host={arguments.host}' makes it a member")


def remove(arguments):
    cluster = current()
    machine = host(cluster, arguments.host)
    if machine.name not in plan.SPARES:
        raise Unusable(f"{machine.name} belongs to the region from the start: only added hosts can be removed")
    if machine.is_up():
        raise Unusable(f"{machine.name} is up: './dev cluster play remove-host.yml -e target_host={machine.name}' must end its membership first")
    cluster.remove(machine)
    tell(f"{machine.name} is gone: './dev cluster play site.yml' removes it from the other hosts' settings")


def roll_out(arguments):
    rehearsal.rehearse(current(), arguments, tell)


def faults(arguments):
    campaign.run(current(), arguments, tell)


def fail_back(arguments):
    failbacks.run(current(), arguments, tell)


def kill_playbooks(arguments):
    kills.run(current(), arguments, tell)


def freeze(arguments):
    machine = host(current(), arguments.host)
    if not machine.is_up():
        raise Unusable(f"{machine.name} is down: './dev cluster boot {machine.name}' starts it")
    machine.freeze()


def partition(arguments):
    cloud = current().cloud
    if cloud.is_cut(arguments.part):
        raise Unusable(f"{arguments.part} is cut off: './dev cluster heal {arguments.part}' ends that")
    cloud.cut(arguments.part)


def heal(arguments):
    cluster = current()
    machine = cluster.machines.get(arguments.part)
    frozen, cut = machine is not None and machine.is_frozen(), cluster.cloud.is_cut(arguments.part)
    if not frozen and not cut:
        raise Unusable(f"{arguments.part} is neither frozen nor cut off")
    if frozen:
        machine.thaw()
    if cut:
        cluster.cloud.heal(arguments.part)


def one_of(names, what):
    """A type of arguments: a name that there is."""

    def check(text):
        if text not in names:
            raise argparse.ArgumentTypeError(f"there is no {what} '{text}': choose one of {', '.join(names)}")
        return text

    return check


HOST = one_of([*plan.PLACES, *plan.SPARES, *plan.SUCCESSORS], "host")
PART = one_of(plan.PARTS, "host, zone or region")
REGION = one_of(plan.NETWORKS, "region")
PLAYBOOK = one_of(sorted(path.name for path in (TOP / "ansible").glob("*.yml")), "playbook")


def parse(arguments):
    parser = Parser(prog="./dev cluster", description=__doc__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    named = {
        "up": (up, "create network and hosts, and run the playbook site on them"),
        "down": (down, "stop and remove everything"),
        "status": (show, "show leaders, lag, health and alerts"),
        "logs": (logs, "search the logs of all hosts of a region; arguments with a dash go to journalctl"),
        "ssh": (ssh, "log in to a host, or run a command there"),
        "play": (play, "run a playbook of ansible/, such as switchover.yml"),
        "kill": (kill, "kill a host like a power cut"),
        "fence": (fence, "power a host off like a cloud's API: returns 0 when it is off"),
        "boot": (boot, "start a killed host"),
        "resize": (resize, "stop a host, give it the wanted size, and start it, like a cloud's API"),
        "replace": (replace, "replace a host by an empty one with the same name and address"),
        "add": (add, "start one more, empty database host in a region, for the playbook add-host"),
        "remove": (remove, "remove an added host, after the playbook remove-host"),
        "roll-out": (roll_out, "replace a region's service hosts under load like an instance refresh; exit 1 if a request failed"),
        "faults": (faults, "inject all faults under load, in random order; exit 1 if a promise was broken"),
        "failbacks": (fail_back, "move the primary between the regions repeatedly under load; exit 1 if a promise was broken"),
        "kills": (kill_playbooks, "kill a playbook at random tasks under load and run it again; exit 1 if a promise was broken"),
        "freeze": (freeze, "stop every process of a host; its kernel still acknowledges packets"),
        "partition": (partition, "cut a host, a zone or a region off from everything else"),
        "heal": (heal, "end a partition or a freeze"),
    }
    for name, (function, text) in named.items():
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(function=function)
        if name in ("ssh", "kill", "fence", "boot", "resize", "replace", "add", "remove", "freeze"):
            command.add_argument("host", metavar="HOST", type=HOST, help="the host, such as a-db1")
        if name == "resize":
            command.add_argument("--look", action="store_true", help="print what would be done, and change nothing")
        if name in ("partition", "heal"):
            command.add_argument("part", metavar="PART", type=PART, help="a host (a-db1), a zone (a1) or a region (a)")
        if name == "ssh":
            command.add_argument("command", metavar="COMMAND", nargs=argparse.REMAINDER, help="what to run as root (default: a shell)")
        if name == "status":
            command.add_argument("--watch", action="store_true", help="refresh until Ctrl-C")
        if name == "logs":
            command.add_argument("--region", type=REGION, default=plan.FIRST, help="the region (default: %(default)s)")
            command.add_argument("words", metavar="PATTERN", nargs=argparse.REMAINDER, help="text to search for, and options of journalctl")
        if name == "roll-out":
            rehearsal.arguments(command)
        if name == "faults":
            campaign.arguments(command)
        if name == "failbacks":
            failbacks.arguments(command)
        if name == "kills":
            kills.arguments(command)
        if name == "play":
            command.add_argument("playbook", metavar="PLAYBOOK", type=PLAYBOOK, help="a file of ansible/")
            command.add_argument("arguments", metavar="ARGUMENT", nargs=argparse.REMAINDER, help="arguments of ansible-playbook")
    return parser.parse_args(arguments)


def main():
    # Ended by a time limit, it cleans up as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    arguments = parse(sys.argv[1:])
    try:
        arguments.function(arguments)
    except (Unusable, nspawn.Failed, TimeoutError) as error:
        raise SystemExit(f"cluster: {error}") from None
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"cluster: {pathlib.Path(str(error.cmd[2])).name} failed, see above") from None
    except KeyboardInterrupt:
        raise SystemExit("cluster: interrupted") from None


if __name__ == "__main__":
    main()
