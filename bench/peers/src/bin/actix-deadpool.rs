//! actix-web and deadpool-postgres with its pool's defaults and its cache of statements.

use actix_web::{App, HttpResponse, HttpServer, error, web};
use deadpool_postgres::{Config, Pool, Runtime};
use dob_api::domain::Username;
use jiff::civil::Date;
use peers::{Person, SELECT, UPSERT};
use tokio_postgres::NoTls;

async fn greet(pool: web::Data<Pool>, name: web::Path<String>) -> actix_web::Result<HttpResponse> {
    let username: Username = name.parse().map_err(error::ErrorBadRequest)?;
    let client = pool.get().await.map_err(error::ErrorServiceUnavailable)?;
    let statement = client.prepare_cached(SELECT).await.map_err(error::ErrorServiceUnavailable)?;
    let key = username.key();
    let found = client.query_opt(&statement, &[&key.as_str()]).await.map_err(error::ErrorServiceUnavailable)?;
    let born: Date = found.ok_or_else(|| error::ErrorNotFound("no such user"))?.get(0);
    Ok(HttpResponse::Ok().json(peers::greeting(&username, born)))
}

async fn save(
    pool: web::Data<Pool>,
    name: web::Path<String>,
    person: web::Json<Person>,
) -> actix_web::Result<HttpResponse> {
    let username: Username = name.parse().map_err(error::ErrorBadRequest)?;
    let born = peers::birth(&person).ok_or_else(|| error::ErrorBadRequest("no date of birth"))?;
    let client = pool.get().await.map_err(error::ErrorServiceUnavailable)?;
    let statement = client.prepare_cached(UPSERT).await.map_err(error::ErrorServiceUnavailable)?;
    client.execute(&statement, &[&username.key().as_str(), &born]).await.map_err(error::ErrorServiceUnavailable)?;
    Ok(HttpResponse::NoContent().finish())
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = Config { url: Some(peers::database_url()), ..Config::default() };
    let pool = web::Data::new(config.create_pool(Some(Runtime::Tokio1), NoTls)?);
    let app = move || {
        let hello = web::resource("/hello/{name}").route(web::get().to(greet)).route(web::put().to(save));
        App::new().app_data(pool.clone()).service(hello)
    };
    Ok(HttpServer::new(app).bind(peers::listen())?.run().await?)
}
