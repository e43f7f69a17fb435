#!/bin/sh
# Says on the console what a test wants to know of the inside of a host, which has no way in.
say() { echo "report $1 $(tr '\t\n' '  ')"; }
systemctl is-system-running --wait | say state
systemctl --failed --plain --no-legend | say failed
process=$(systemctl show --value --property=MainPID dob-api)
grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' "/proc/$process/status" | say confined
stat -c %U "/proc/$process" | say user
# The first from outside, the second from the service's control group, where its own connections are filtered.
metadata() { curl -s -o /dev/null -m 10 -w '%{http_code} ' http://169.254.169.254/; }
{ metadata && (echo 0 >"/sys/fs/cgroup$(sed s/^0::// "/proc/$process/cgroup")/cgroup.procs" && metadata); } | say metadata
systemd-analyze security --no-pager dob-api | tail -n1 | say exposure
awk 'FNR > 1 && $4 == "0A" { print $2 }' /proc/net/tcp /proc/net/tcp6 | sort | say ports
{ stat -f -c %T /run/credstore /run/credentials/dob-api.service && stat -c %a:%U /run/credstore/*; } | say secrets
grep -rlF "$(cat /run/credstore/dob-api.database-password)" /etc /var /home /root /opt /srv 2>/dev/null | say on-disk
awk -F: '$2 !~ /^[!*]/ { print $1 }' /etc/shadow | say passwords
tail -n +2 /proc/swaps | say swap
awk '/MemTotal|MemAvailable/ { printf "%s %d MB ", $1, $2 / 1024 }' /proc/meminfo | say memory
systemd-analyze time | head -n1 | say took
echo | say "done"
