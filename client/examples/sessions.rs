//! A service whose users log in, see where they are logged in, and log out here, elsewhere or everywhere.
//!
//! ```sh
//! cargo run --example sessions --features tower-sessions -- redis://127.0.0.1/          # then
//! curl -i -X POST http://127.0.0.1:3000/login/alice              # the cookie
//! curl http://127.0.0.1:3000/me -H 'Cookie: id=<the cookie>'
//! curl http://127.0.0.1:3000/sessions -H 'Cookie: id=<the cookie>'
//! curl -X POST http://127.0.0.1:3000/logout-everywhere -H 'Cookie: id=<the cookie>'
//! ```

use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use expcache_client::{Beyond, Client, Config, Policy, Sessions, TowerSessions};
use tower_sessions::cookie::time;
use tower_sessions::{Expiry, Session, SessionManagerLayer};

/// Whose the session is.
const USER: &str = "user";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let server = arguments.next().unwrap_or_else(|| "redis://127.0.0.1/".to_owned());
    let listen = arguments.next().unwrap_or_else(|| "127.0.0.1:3000".to_owned());

    // 20 minutes without use, 8 hours at the most, three of a user.
    let policy = Policy {
        per_tag: Some(Sessions::per_user("session", 3, Beyond::Evict)),
        ..Sessions::policy(Duration::from_secs(20 * 60), Duration::from_secs(8 * 3600))
    };
    let client = Client::open(Config::single(server)?.policy("session", policy))?;
    let sessions = Sessions::new(&client, "session")?;
    let store = TowerSessions::new(&sessions).user_field(USER);
    // Without TLS a browser does not send a cookie that is secure: leave that on where there is TLS.
    let layer = SessionManagerLayer::new(store)
        .with_secure(false)
        .with_expiry(Expiry::OnInactivity(time::Duration::minutes(20)));

    let app = Router::new()
        .route("/login/{user}", post(login))
        .route("/me", get(me))
        .route("/sessions", get(list))
        .route("/logout", post(logout))
        .route("/logout-everywhere", post(logout_everywhere))
        .layer(layer)
        .with_state(sessions);
    let listener = tokio::net::TcpListener::bind(listen).await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app).await?)
}

/// Who it is has been seen to. The id is another from now on: nobody can have known it before.
async fn login(session: Session, Path(user): Path<String>) -> Result<(), Failure> {
    session.cycle_id().await?;
    Ok(session.insert(USER, user).await?)
}

async fn me(session: Session) -> Result<String, Failure> {
    Ok(format!("{}\n", user(&session).await?))
}

async fn list(session: Session, State(sessions): State<Sessions>) -> Result<String, Failure> {
    let all = sessions.all(user(&session).await?).await?;
    let line = |one: &expcache_client::Listed| format!("{} since {:?}\n", one.handle, one.born);
    Ok(all.iter().map(line).collect())
}

async fn logout(session: Session) -> Result<(), Failure> {
    Ok(session.flush().await?)
}

async fn logout_everywhere(session: Session, State(sessions): State<Sessions>) -> Result<String, Failure> {
    let ended = sessions.end_all(user(&session).await?).await?;
    session.flush().await?;
    Ok(format!("{ended} sessions have ended\n"))
}

async fn user(session: &Session) -> Result<String, Failure> {
    session.get(USER).await?.ok_or(Failure(StatusCode::UNAUTHORIZED, "nobody is logged in".to_owned()))
}

struct Failure(StatusCode, String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, self.1 + "\n").into_response()
    }
}
