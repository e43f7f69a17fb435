//! axum and sqlx with its pool's defaults.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use dob_api::domain::Username;
use peers::{Greeting, Person, SELECT, UPSERT};
use sqlx::PgPool;
use sqlx::types::time::Date;

async fn greet(State(pool): State<PgPool>, Path(name): Path<String>) -> Result<Json<Greeting>, StatusCode> {
    let username: Username = name.parse().map_err(|_| StatusCode::BAD_REQUEST)?;
    let found: Option<(Date,)> =
        sqlx::query_as(SELECT).bind(username.key().as_str()).fetch_optional(&pool).await.map_err(unavailable)?;
    let (born,) = found.ok_or(StatusCode::NOT_FOUND)?;
    let born = jiff::civil::date(born.year() as i16, u8::from(born.month()) as i8, born.day() as i8);
    Ok(Json(peers::greeting(&username, born)))
}

async fn save(
    State(pool): State<PgPool>,
    Path(name): Path<String>,
    Json(person): Json<Person>,
) -> Result<StatusCode, StatusCode> {
    let username: Username = name.parse().map_err(|_| StatusCode::BAD_REQUEST)?;
    let born = peers::birth(&person).ok_or(StatusCode::BAD_REQUEST)?;
    let day = Date::from_ordinal_date(born.year().into(), born.day_of_year() as u16).expect("a real day");
    sqlx::query(UPSERT).bind(username.key().as_str()).bind(day).execute(&pool).await.map_err(unavailable)?;
    Ok(StatusCode::NO_CONTENT)
}

fn unavailable(_: sqlx::Error) -> StatusCode {
    StatusCode::SERVICE_UNAVAILABLE
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = PgPool::connect(&peers::database_url()).await?;
    let app = Router::new().route("/hello/{name}", get(greet).put(save)).with_state(pool);
    let listener = tokio::net::TcpListener::bind(peers::listen()).await?;
    Ok(axum::serve(listener, app).await?)
}
