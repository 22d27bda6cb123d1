//! Sessions: entries of a user, each under an id that nobody can guess.
//!
//! An entry has all that a session needs. Its type ends it after a time without use (`SLIDING`) and after its whole life
//! (`LIFETIME`), and bounds how many a user has (`PERTAG`). Its tags find all of a user's. `IFMATCH` lets nobody store over what
//! another stored, or over what is gone. What is here is the ids, the keys and tags, and what follows from them.

mod id;
mod rotate;
#[cfg(feature = "tower-sessions")]
mod tower;
mod users;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use expcache_core::key::md5_hex;
use serde::{Deserialize, Serialize};

pub use self::id::SessionId;
#[cfg(feature = "tower-sessions")]
pub use self::tower::TowerSessions;
pub use self::users::Listed;
use crate::command::{Client, Condition, Expiry, Fetch, Field, Set, Status};
use crate::error::{Error, Result};
use crate::policy::{Beyond, PerTag, Policy};
use crate::words::plain_name;

/// How often an id is made for a session that is begun: one that is taken already was never seen.
const ATTEMPTS: usize = 3;
/// How often one is sent on from where a session was.
const MOVES: usize = 3;

/// The sessions of one type. Cheap to clone.
///
/// ```no_run
/// use expcache_client::{Beyond, Client, Config, Policy, SessionId, Sessions};
/// use std::time::Duration;
///
/// # async fn example() -> expcache_client::Result<()> {
/// // 20 minutes without use, 8 hours at the most, three of a user: one more ends the one that was not used for longest.
/// let (idle, whole_life) = (Duration::from_secs(20 * 60), Duration::from_secs(8 * 3600));
/// let policy = Policy {
///     per_tag: Some(Sessions::per_user("session", 3, Beyond::Evict)),
///     ..Sessions::policy(idle, whole_life)
/// };
/// let client = Client::open(Config::single("redis://127.0.0.1/")?.policy("session", policy))?;
/// let sessions = Sessions::new(&client, "session")?;
///
/// let session = sessions.create("user 7", r#"{"cart":[]}"#).await?;
/// let cookie = session.id().cookie();
///
/// // The next request.
/// let Some(id) = SessionId::parse(&cookie) else { return Ok(()) };
/// let Some(mut session) = sessions.get(&id).await? else { return Ok(()) };
/// if !sessions.save(&mut session, r#"{"cart":[1]}"#).await? {
///     // Another request has saved meanwhile, or the session has ended.
/// }
/// sessions.end_others("user 7", &session).await?;
/// sessions.delete(&id).await?;
/// # Ok(())
/// # }
/// ```
///
/// A session is the entry `<type>:{<slot>}:<random>`, with the tags `<type>:user:<user>` and `<type>:id:<handle>`. A user of the server
/// needs the right to `<type>:*`, and beside the commands of the cache those to `GET`, `SET`, `PEXPIRE`, `RENAMENX` and `DEL`
/// for what [`Sessions::extend`] and [`Sessions::rotate`] do. Nothing of a session is kept in this process. Where the same servers hold large
/// exports, give sessions a [`Client`] of their own, so that they do not stand behind these.
#[derive(Clone)]
pub struct Sessions {
    client: Client,
    type_name: Arc<str>,
    salt: Arc<[u8]>,
}

impl Sessions {
    /// The sessions of a type. Its name is part of keys and tags: letters, digits, `-`, `_` and `.`.
    pub fn new(client: &Client, type_name: &str) -> Result<Self> {
        let (client, type_name) = (client.clone(), plain_name("type of sessions", type_name)?.into());
        Ok(Self { client, type_name, salt: Arc::new(id::random()?.to_be_bytes()) })
    }

    /// The policy of a type of sessions, for [`Config::policy`](crate::Config::policy): one ends when it was not used for so long, and
    /// after its whole life however much it is used (zero: never).
    pub fn policy(idle: Duration, whole_life: Duration) -> Policy {
        Policy {
            ttl: Some(idle),
            sliding: Some(true),
            lifetime: Some(whole_life),
            grace: Some(Duration::ZERO),
            max_ttl: Some(Duration::ZERO),
            jitter: Some(0),
            early: Some(0),
            ..Policy::default()
        }
    }

    /// How many sessions a user may have at the same time, for [`Policy::per_tag`]. One more ends the least recently used, or is refused
    /// ([`Error::TagLimit`]).
    pub fn per_user(type_name: &str, most: u64, beyond: Beyond) -> PerTag {
        PerTag { prefix: user_tag(type_name, "").into(), most, beyond }
    }

    /// The salt of what [`Sessions::logged`] says, so that several processes say the same of a session. Without it each has its own.
    #[must_use]
    pub fn log_salt(mut self, salt: impl AsRef<[u8]>) -> Self {
        self.salt = salt.as_ref().into();
        self
    }

    /// What a session may be called in logs: 16 hexadecimal digits, which without the salt tell nothing of the id.
    pub fn logged(&self, id: &SessionId) -> String {
        id.salted(&self.salt)
    }

    /// Begins a session of a user. It has a new id whatever the user had before: so nobody can have known it. At a login, end the session
    /// before it.
    ///
    /// Two are never the same: should the id be taken, there is another.
    pub async fn create(&self, user: impl ToString, data: impl Into<Bytes>) -> Result<Session> {
        let user = user.to_string();
        if user.is_empty() {
            return Err(Error::Request("a user without a name: that is an anonymous session".to_owned()));
        }
        self.begin(Some(user), data.into()).await
    }

    /// Begins a session of nobody's, before there is a login. No limit of users is about it.
    pub async fn create_anonymous(&self, data: impl Into<Bytes>) -> Result<Session> {
        self.begin(None, data.into()).await
    }

    async fn begin(&self, user: Option<String>, data: Bytes) -> Result<Session> {
        for _ in 0..ATTEMPTS {
            let id = user.as_deref().map_or_else(SessionId::of_nobody, SessionId::of_user)?;
            let about = About { handle: id.handle(), user: user.clone() };
            let set = self.set(&id, &about, data.clone())?;
            if self.client.set(&set.only_if(Condition::Absent)).await? {
                self.note("a session begins", &id);
                return Ok(Session { id, at: id, about, data });
            }
        }
        Err(Error::Request("no id for a session was free".to_owned()))
    }

    /// The session of an id, if there is one. It is used by that: it lives on.
    pub async fn get(&self, id: &SessionId) -> Result<Option<Session>> {
        let mut at = *id;
        for _ in 0..=MOVES {
            if let Some((about, data)) = self.look(&at).await? {
                return Ok(Some(Session { id: *id, at, about, data }));
            }
            match self.moved_to(&at).await? {
                Some(next) => at = next,
                None => break,
            }
        }
        Ok(None)
    }

    /// Saves other data in a session, if it is still there and as it was read. `false`: another saved meanwhile, or it has ended; nothing was
    /// stored. Then [`Sessions::get`] tells which, and what the others saved. Its end stays where it is.
    pub async fn save(&self, session: &mut Session, data: impl Into<Bytes>) -> Result<bool> {
        let data = data.into();
        let set = self.set(&session.at, &session.about, data.clone())?.expiry(Expiry::Keep);
        let saved = self.client.set(&set.only_if(Condition::Etag(etag(&session.data)))).await?;
        if saved {
            session.data = data;
        }
        Ok(saved)
    }

    /// Lets a session end in so long, unless it is used. `false`: it has ended. Its whole life is not prolonged.
    pub async fn extend(&self, id: &SessionId, time: Duration) -> Result<bool> {
        match self.get(id).await? {
            Some(session) => self.client.expire_native(self.key(&session.at).as_bytes(), time).await,
            None => Ok(false),
        }
    }

    /// Ends a session. Whoever read it before cannot save it any more. `false`: there was none.
    pub async fn delete(&self, id: &SessionId) -> Result<bool> {
        let Some(session) = self.get(id).await? else { return Ok(false) };
        // Where it has another id by now, it is found by its handle.
        let ended = self.client.del(&[self.key(&session.at)]).await? > 0 || self.end(session.handle()).await?;
        self.note("a session is ended", &session.at);
        Ok(ended)
    }

    /// What is fresh under an id, and was stored by us.
    async fn look(&self, id: &SessionId) -> Result<Option<(About, Bytes)>> {
        let fetch = Fetch::new(self.key(id)).only([Field::Status, Field::Value, Field::Meta]);
        let found = self.client.fetch(&fetch).await?;
        let (Status::Hit, Some(data), Some(meta)) = (found.status, found.value, found.meta) else { return Ok(None) };
        Ok(serde_json::from_slice(&meta).ok().map(|about| (about, data)))
    }

    fn set(&self, id: &SessionId, about: &About, data: Bytes) -> Result<Set> {
        let meta = serde_json::to_vec(about).map_err(Error::payload)?;
        let set =
            Set::new(self.key(id), data).type_name(&*self.type_name).meta(meta).tag(self.handle_tag(&about.handle));
        Ok(about.user.iter().fold(set, |set, user| set.tag(user_tag(&self.type_name, user))))
    }

    fn key(&self, id: &SessionId) -> String {
        id.key(&self.type_name)
    }

    fn handle_tag(&self, handle: &str) -> String {
        format!("{}:id:{handle}", self.type_name)
    }

    fn note(&self, what: &'static str, id: &SessionId) {
        tracing::debug!("type" = &*self.type_name, session = self.logged(id), "{what}");
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("type_name", &self.type_name).finish_non_exhaustive()
    }
}

/// Not the tag of a user's exports: who invalidates those ends no session.
fn user_tag(type_name: &str, user: &str) -> String {
    format!("{type_name}:user:{user}")
}

/// What the server would say of it: nobody need ask.
fn etag(data: &[u8]) -> String {
    md5_hex(data).iter().map(|digit| char::from(*digit)).collect()
}

/// What is kept beside the data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct About {
    /// It stays the same when the id changes.
    handle: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<String>,
}

/// A session as it was read.
#[derive(Clone)]
pub struct Session {
    /// As it was asked for.
    id: SessionId,
    /// Where it is.
    at: SessionId,
    about: About,
    data: Bytes,
}

impl Session {
    /// Its id, for the cookie.
    pub fn id(&self) -> &SessionId {
        &self.id
    }

    /// What it is called where its user, or an administrator, sees it: no secret, and the same for its whole life. See
    /// [`Sessions::end`].
    pub fn handle(&self) -> &str {
        &self.about.handle
    }

    /// Whose it is, if anybody's.
    pub fn user(&self) -> Option<&str> {
        self.about.user.as_deref()
    }

    /// What was saved in it.
    pub fn data(&self) -> &Bytes {
        &self.data
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let about = &self.about;
        f.debug_struct("Session").field("handle", &about.handle).field("user", &about.user).finish_non_exhaustive()
    }
}
