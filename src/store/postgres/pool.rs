//! The connections, owned by bb8: each ready for one kind of statement.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bb8::{ErrorSink, ManageConnection, Pool};
use tokio_postgres::Statement;

use super::error::ConnectError;
use super::hosts::Hosts;
use super::session::Session;
use super::topology::Topology;
use crate::metrics::Operation;

/// bb8 tries to connect every half of this, and a waiting lane comes round as often.
const CONNECTION_TIMEOUT: Duration = Duration::from_millis(500);

/// A pool of connections for one operation.
pub(super) type LanePool = Pool<Connector>;

/// A connection with its statement prepared.
pub(super) struct Connection {
    pub(super) session: Session,
    pub(super) statement: Statement,
    pub(super) hosts: Arc<Hosts>,
    retired: bool,
}

/// Makes connections for one operation.
pub(super) struct Connector {
    hosts: Arc<Hosts>,
    operation: Operation,
    sql: &'static str,
    /// The first connection, where one stands already.
    first: Mutex<Option<Session>>,
}

/// Where bb8 tells of failed attempts.
#[derive(Clone, Debug)]
struct Sink {
    topology: Arc<Topology>,
    operation: Operation,
}

/// A pool of `size` connections for `operation`, which `sql` carries out; `first` is one of them.
pub(super) fn new(
    hosts: &Arc<Hosts>,
    operation: Operation,
    size: u32,
    sql: &'static str,
    first: Option<Session>,
) -> LanePool {
    Pool::builder()
        .max_size(size)
        // The check would be a round trip a checkout; lanes notice by themselves.
        .test_on_check_out(false)
        .connection_timeout(CONNECTION_TIMEOUT)
        // Lanes hold their connections for good.
        .max_lifetime(None)
        .idle_timeout(None)
        .error_sink(Box::new(Sink { topology: hosts.topology(), operation }))
        .build_unchecked(Connector { hosts: hosts.clone(), operation, sql, first: Mutex::new(first) })
}

impl Connection {
    /// Marks the connection as not to be used again, so that the pool makes a new one.
    pub(super) fn retire(&mut self) {
        self.retired = true;
    }
}

impl ManageConnection for Connector {
    type Connection = Connection;
    type Error = ConnectError;

    async fn connect(&self) -> Result<Connection, ConnectError> {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let session = match first {
            Some(session) => session,
            None => self.hosts.find(self.operation).await?,
        };
        let prepared = session.client.prepare(self.sql).await;
        let statement = prepared.map_err(|error| ConnectError::Step("cannot prepare the statement", error))?;
        Ok(Connection { session, statement, hosts: self.hosts.clone(), retired: false })
    }

    async fn is_valid(&self, connection: &mut Connection) -> Result<(), ConnectError> {
        connection.session.probe().await.map(drop).map_err(|error| ConnectError::Step("cannot probe", error))
    }

    fn has_broken(&self, connection: &mut Connection) -> bool {
        connection.retired || connection.session.client.is_closed()
    }
}

impl ErrorSink<ConnectError> for Sink {
    fn sink(&self, error: ConnectError) {
        self.topology.failed(self.operation, &error);
    }

    fn boxed_clone(&self) -> Box<dyn ErrorSink<ConnectError>> {
        Box::new(self.clone())
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection to {}", self.session.host)
    }
}
