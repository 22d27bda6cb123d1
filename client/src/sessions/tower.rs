//! Sessions for [`tower-sessions`](https://docs.rs/tower-sessions): its `SessionStore`.

use std::collections::HashMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use tower_sessions_core::SessionStore;
use tower_sessions_core::session::{Id, Record};
use tower_sessions_core::session_store::{Error as StoreError, Result as StoreResult};

use super::id::{slot_of, with_slot};
use super::{ATTEMPTS, About, SessionId, Sessions};
use crate::command::{Condition, Set};
use crate::error::Error;

/// A store for `tower_sessions::SessionManagerLayer`. Cheap to clone.
///
/// ```no_run
/// # fn example(client: expcache_client::Client) -> expcache_client::Result<()> {
/// use expcache_client::{Sessions, TowerSessions};
///
/// let sessions = Sessions::new(&client, "session")?;
/// let store = TowerSessions::new(&sessions).user_field("user_id");
/// // SessionManagerLayer::new(store)
/// # Ok(())
/// # }
/// ```
///
/// - What is saved after the session has ended stores nothing, and is no error. So a request under way does not bring back what a logout
///   has ended.
/// - An id that is taken is never given twice.
/// - The last of two requests that save at the same time wins: a store of this kind is not told what was read.
///   [`Sessions::save`] is.
/// - With [`TowerSessions::user_field`] all that [`Sessions`] does for users works: list, end all, a limit.
/// - A session ends when its expiry says, by the server's clock. With a type that slides, each read prolongs it, and
///   `Expiry::OnInactivity` needs no save a request; `Expiry::AtDateTime` wants a type that does not. What is stored
///   never outlives `LIFETIME`.
#[derive(Debug, Clone)]
pub struct TowerSessions {
    sessions: Sessions,
    user_field: Option<String>,
}

impl TowerSessions {
    /// A store that does not know users.
    pub fn new(sessions: &Sessions) -> Self {
        Self { sessions: sessions.clone(), user_field: None }
    }

    /// In which field of the session its user is told, as a text or a number: so it is known for whom it is as soon as the field is there.
    /// Give the session another id (`cycle_id`) when a user logs in: that is good against fixed ids, and in a cluster brings all
    /// sessions of a user to one node, which is where a limit counts.
    #[must_use]
    pub fn user_field(mut self, name: &str) -> Self {
        self.user_field = Some(name.to_owned());
        self
    }

    /// The sessions that are in it.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    fn user_of(&self, record: &Record) -> Option<String> {
        match record.data.get(self.user_field.as_ref()?)? {
            Value::String(user) if !user.is_empty() => Some(user.clone()),
            Value::Number(user) => Some(user.to_string()),
            _ => None,
        }
    }

    /// What is to be stored; `None`: it has ended already.
    fn set(&self, record: &Record, user: Option<String>) -> StoreResult<Option<Set>> {
        let left = record.expiry_date - OffsetDateTime::now_utc();
        let Ok(left) = std::time::Duration::try_from(left) else { return Ok(None) };
        if left.is_zero() {
            return Ok(None);
        }
        let id = id_of(record.id);
        let stored = Stored { data: &record.data, expiry: record.expiry_date };
        let data = serde_json::to_vec(&stored).map_err(|error| StoreError::Encode(error.to_string()))?;
        let set = self.sessions.set(&id, &About { handle: id.handle(), user }, data.into()).map_err(backend)?;
        Ok(Some(set.ttl(left)))
    }
}

fn id_of(id: Id) -> SessionId {
    SessionId::whole(id.0.cast_unsigned())
}

fn backend(error: Error) -> StoreError {
    StoreError::Backend(error.to_string())
}

/// What is kept of a record, its id left out.
#[derive(Serialize)]
struct Stored<'a> {
    data: &'a HashMap<String, Value>,
    expiry: OffsetDateTime,
}

/// As it is read.
#[derive(Deserialize)]
struct Read {
    data: HashMap<String, Value>,
    expiry: OffsetDateTime,
}

#[async_trait]
impl SessionStore for TowerSessions {
    async fn create(&self, record: &mut Record) -> StoreResult<()> {
        let user = self.user_of(record);
        for _ in 0..ATTEMPTS {
            if let Some(user) = &user {
                record.id = Id(with_slot(record.id.0.cast_unsigned(), slot_of(user)).cast_signed());
            }
            let Some(set) = self.set(record, user.clone())? else { return Ok(()) };
            if self.sessions.client.set(&set.only_if(Condition::Absent)).await.map_err(backend)? {
                self.sessions.note("a session begins", &id_of(record.id));
                return Ok(());
            }
            record.id = Id(super::id::random().map_err(backend)?.cast_signed());
        }
        Err(StoreError::Backend("no id for a session was free".to_owned()))
    }

    async fn save(&self, record: &Record) -> StoreResult<()> {
        match self.set(record, self.user_of(record))? {
            Some(set) => self.sessions.client.set(&set.only_if(Condition::Present)).await.map(drop).map_err(backend),
            None => self.delete(&record.id).await,
        }
    }

    async fn load(&self, id: &Id) -> StoreResult<Option<Record>> {
        let Some((_, data)) = self.sessions.look(&id_of(*id)).await.map_err(backend)? else { return Ok(None) };
        let read: Read = serde_json::from_slice(&data).map_err(|error| StoreError::Decode(error.to_string()))?;
        Ok(Some(Record { id: *id, data: read.data, expiry_date: read.expiry }))
    }

    async fn delete(&self, id: &Id) -> StoreResult<()> {
        let id = id_of(*id);
        self.sessions.client.del(&[self.sessions.key(&id)]).await.map_err(backend)?;
        self.sessions.note("a session is ended", &id);
        Ok(())
    }
}
