//! All sessions of a user: to see, and to end.

use std::collections::HashSet;
use std::time::SystemTime;

use super::{Session, SessionId, Sessions, user_tag};
use crate::command::{Purge, Selector};
use crate::error::Result;

/// A session, as it is shown to its user or an administrator: without its id, which would be the session itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// What [`Sessions::end`] takes.
    pub handle: String,
    /// When it began.
    pub born: SystemTime,
    /// When it was read or saved last.
    pub last_used: SystemTime,
}

impl Sessions {
    /// The sessions of a user, those first that were used last. Looking at them is no use of them.
    pub async fn all(&self, user: impl ToString) -> Result<Vec<Listed>> {
        let of_user = Selector::new().any([user_tag(&self.type_name, &user.to_string())]);
        let (mut listed, mut seen) = (Vec::new(), HashSet::new());
        for key in self.client.scan(of_user).collect().await? {
            let Some(id) = SessionId::of_key(&key, &self.type_name) else { continue };
            // Under another id by now it may come twice.
            if let Some(one) = self.listed(&id).await?.filter(|one| seen.insert(one.handle.clone())) {
                listed.push(one);
            }
        }
        listed.sort_unstable_by_key(|one| std::cmp::Reverse(one.last_used));
        Ok(listed)
    }

    /// `None`: it has ended meanwhile.
    async fn listed(&self, id: &SessionId) -> Result<Option<Listed>> {
        let meta = match self.client.meta(self.key(id)).await? {
            Some(meta) => Some(meta),
            None => match self.moved_to(id).await? {
                Some(id) => self.client.meta(self.key(&id)).await?,
                None => None,
            },
        };
        let Some(meta) = meta else { return Ok(None) };
        let prefix = self.handle_tag("");
        let handle = meta.tags.iter().find_map(|tag| tag.strip_prefix(prefix.as_bytes()));
        let handle = handle.and_then(|handle| std::str::from_utf8(handle).ok()).map(str::to_owned);
        Ok(handle.map(|handle| Listed { handle, born: meta.born, last_used: meta.last_access }))
    }

    /// Ends the session of a [handle](Session::handle), whatever its id is by now. `false`: there was none.
    ///
    /// A handle is no secret. Whose session it is has to be seen to before: [`Sessions::all`] lists those of a user.
    pub async fn end(&self, handle: &str) -> Result<bool> {
        Ok(self.client.invalidate_tags([self.handle_tag(handle)]).await? > 0)
    }

    /// Ends all sessions of a user, in one step on each node: none that was there before is there any more, and what is being saved
    /// in them is not stored. Returns how many there were.
    pub async fn end_all(&self, user: impl ToString) -> Result<u64> {
        self.client.invalidate_tags([user_tag(&self.type_name, &user.to_string())]).await
    }

    /// Ends all sessions of a user but this one.
    pub async fn end_others(&self, user: impl ToString, keep: &Session) -> Result<u64> {
        let of_user = Selector::new().any([user_tag(&self.type_name, &user.to_string())]);
        let others = of_user.none([self.handle_tag(keep.handle())]);
        Ok(self.client.purge(&others, Purge::hard()).await?.count)
    }
}
