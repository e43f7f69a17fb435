//! A real `PgBouncer` in front of a database server.
//!
//! Kinder than most: it has one mode, asks its clients for no password, and has a session for each of them.

use std::fs;
use std::net::TcpStream;
use std::process::{Child, Stdio};

use tempfile::TempDir;

use super::postgres::{Server, as_postgres, free_port, give_to_postgres};
use super::role::Role;
use super::{eventually, process};

/// A pooler in session mode; it ends when it is dropped.
pub struct Pooler {
    child: Child,
    pub port: u16,
    _directory: TempDir,
}

impl Pooler {
    /// One that lets `role` in, and drops the options of a connection, as its manual advises for clients that send some.
    pub fn start(server: &Server, role: &Role<'_>) -> Self {
        let directory = tempfile::Builder::new().prefix("dob-api-pooler-").tempdir().unwrap();
        let (users, settings) = (directory.path().join("users"), directory.path().join("settings"));
        let port = free_port();
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
            unix_socket_dir =\nauth_type = trust\nauth_file = {}\npool_mode = session\n\
            ignore_startup_parameters = options\n",
            server.port,
            users.display()
        );
        fs::write(&settings, text).unwrap();
        fs::write(&users, format!("\"{}\" \"secret\"\n", role.name)).unwrap();
        give_to_postgres(directory.path());
        // It refuses to run as root, too.
        let mut command = as_postgres("/usr/sbin/pgbouncer");
        command.arg("--quiet").arg(&settings).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = process::spawn(command);
        eventually("the pooler accepts connections", || {
            assert!(child.try_wait().unwrap().is_none(), "PgBouncer does not start: run `./dev need pgbouncer`");
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Self { child, port, _directory: directory }
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
