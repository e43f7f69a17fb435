//! The service's HTTP path with one bb8 checkout and one prepared statement a request, where the service makes batches.

use bb8::{ManageConnection, Pool, PooledConnection};
use bb8_postgres::PostgresConnectionManager;
use dob_api::domain::Username;
use jiff::civil::Date;
use peers::own::{self, Users};
use peers::{SELECT, UPSERT};
use tokio_postgres::{Client, NoTls, Statement};

type Manager = PostgresConnectionManager<NoTls>;

struct Prepared {
    client: Client,
    select: Statement,
    upsert: Statement,
}

struct Connector(Manager);

impl ManageConnection for Connector {
    type Connection = Prepared;
    type Error = tokio_postgres::Error;

    async fn connect(&self) -> Result<Prepared, Self::Error> {
        let client = self.0.connect().await?;
        let (select, upsert) = (client.prepare(SELECT).await?, client.prepare(UPSERT).await?);
        Ok(Prepared { client, select, upsert })
    }

    async fn is_valid(&self, connection: &mut Prepared) -> Result<(), Self::Error> {
        connection.client.simple_query("").await.map(drop)
    }

    fn has_broken(&self, connection: &mut Prepared) -> bool {
        connection.client.is_closed()
    }
}

struct Checkouts(Pool<Connector>);

impl Checkouts {
    async fn connection(&self) -> Option<PooledConnection<'_, Connector>> {
        self.0.get().await.ok()
    }
}

impl Users for Checkouts {
    async fn get(&self, username: &Username) -> Option<Date> {
        let connection = self.connection().await?;
        let key = username.key();
        let found = connection.client.query_opt(&connection.select, &[&key.as_str()]).await;
        found.ok()?.map(|row| row.get(0))
    }

    async fn put(&self, username: &Username, born: Date) -> bool {
        let Some(connection) = self.connection().await else { return false };
        let key = username.key();
        connection.client.execute(&connection.upsert, &[&key.as_str(), &born]).await.is_ok()
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let manager = Manager::new_from_stringlike(peers::database_url(), NoTls)?;
    // Without the check, which would be a round trip a checkout.
    let pool = Pool::builder().test_on_check_out(false).max_size(10).build(Connector(manager)).await?;
    own::serve(Checkouts(pool)).await?;
    Ok(())
}
