//! What `dob-api health` asks where only root can take the service.

use std::process::Stdio;

use crate::support::process;
use crate::support::service::{BINARY, Launch};

/// Serves where IPv6 is off, until `dob-api health` is content; without a service it never is.
const SCRIPT: &str = "
    ip link set lo up && echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6 || exit
    \"$0\" & until \"$0\" health; do kill -0 $! && sleep 0.1 || exit; done; kill $! && wait $!";

#[test]
fn where_ipv6_is_off_a_service_on_all_addresses_is_asked_over_ipv4() {
    let launch = Launch::embedded().set("DOB_API_LISTEN", "[::]:8080").set("DOB_API_DRAIN_DELAY", "0ms");
    let mut command = process::command("unshare");
    command.args(["--net", "--pid", "--fork", "--kill-child", "sh", "-c", SCRIPT, BINARY]);
    launch.prepare(&mut command);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(process::wait(&mut process::spawn(command)).success());
}
