//! A database role that may log in and nothing else, until it is granted more.

use super::postgres::Server;

/// A role with a password.
pub struct Role<'a> {
    server: &'a Server,
    database: &'a str,
    pub name: String,
}

impl<'a> Role<'a> {
    /// A role of its own for `database`.
    pub fn new(server: &'a Server, database: &'a str) -> Self {
        let name = format!("{database}_role");
        let create = format!("CREATE ROLE {name} LOGIN PASSWORD 'secret'");
        server.client(database).execute(&create, &[]).unwrap();
        Self { server, database, name }
    }

    /// The URL under which it reaches its database on `port`.
    pub fn url_at(&self, port: u16) -> String {
        format!("postgres://{}:secret@127.0.0.1:{port}/{}", self.name, self.database)
    }

    pub fn url(&self) -> String {
        self.url_at(self.server.port)
    }

    /// Carries out SQL as the superuser, with the name of the role in place of `APP`.
    pub fn arrange(&self, sql: &str) {
        self.server.client(self.database).batch_execute(&sql.replace("APP", &self.name)).unwrap();
    }
}
