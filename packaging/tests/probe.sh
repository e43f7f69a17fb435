# shellcheck shell=sh
# Tries what the service must not do, and prints the names of the attempts that succeed.
umask 022
cd "$STATE_DIRECTORY" || exit 1

attempt() {
    name=$1
    shift
    if ("$@") >/dev/null 2>&1; then echo "$name"; fi
}
run_written_program() { cp /bin/true "$1/program" && chmod 755 "$1/program" && "$1/program"; }
socket() { perl -MSocket -e "socket(S, $1, $2, $3) or exit 1"; }

attempt write-data touch here
attempt write-where-all-may touch "/srv/open/$$"
attempt write-etc touch /etc/probe
attempt write-usr touch /usr/probe
attempt write-var touch /var/lib/probe
attempt write-run touch /run/probe.written
attempt write-root touch ~root/probe
attempt write-home touch /home/probe
attempt write-cgroup mkdir "/sys/fs/cgroup/probe.$$"
attempt read-shadow cat /etc/shadow
attempt see-other-processes test -e /proc/1
attempt see-kernel-settings cat /proc/meminfo
attempt signal-others kill -0 1
attempt become-another setpriv --reuid=1 true
attempt use-a-setuid-program su --command=true nobody --shell=/bin/sh
attempt make-a-setuid-program sh -c 'touch setuid && chmod 4755 setuid'
attempt run-written-data run_written_program .
attempt run-written-tmp run_written_program /tmp
attempt run-written-var-tmp run_written_program /var/tmp
attempt run-written-shm run_written_program /dev/shm
attempt make-a-namespace unshare --mount true
attempt mount mount -t tmpfs none /mnt
attempt change-root chroot / true
attempt rename-the-host hostname probe
attempt raw-socket socket PF_INET SOCK_RAW 1
attempt packet-socket socket 17 SOCK_RAW 0
attempt netlink-socket socket 16 SOCK_RAW 0
