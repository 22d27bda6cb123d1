//! Another id for the same session.
//!
//! Two commands, and no transaction: first a note under the old id says where the session is going, then the session is renamed, with
//! its tags and its end. Whoever looks in between finds it under its old id, which is where it is; afterwards he misses it, and finds
//! the note. Who dies in between leaves a note that leads nowhere, for as long as it lasts. All keys are of one slot.
//!
//! A copy under the new id would not do: what is saved under the old one meanwhile would be lost, and a user would have one more
//! session than he has.

use std::time::Duration;

use super::{Session, SessionId, Sessions};
use crate::command::Renamed;
use crate::error::{Error, Result};

impl Sessions {
    /// Gives a session another id, which is then that of `session`, for the cookie. For so long the old one leads to it as well, for requests
    /// under way; of nothing: it ends at once, as it has to when the session is to be trusted with more than before.
    ///
    /// `false`: it was not, because it has ended, or another request has done it, or is doing it. Its old cookie stays as good as it was.
    pub async fn rotate(&self, session: &mut Session, overlap: Duration) -> Result<bool> {
        let (old, new) = (session.at, session.at.beside()?);
        let moved = old.moved_key(&self.type_name);
        let leaves_note = !overlap.is_zero();
        if leaves_note && !self.client.set_native(moved.as_bytes(), &new.cookie(), overlap).await? {
            return Ok(false);
        }
        let renamed = self.client.rename_native(self.key(&old).as_bytes(), self.key(&new).as_bytes()).await?;
        let is_moved = match renamed {
            Renamed::Yes => true,
            Renamed::Taken => false,
            // It may have ended; or the reply was lost, and this was asked again.
            Renamed::Missing => self.look(&new).await?.is_some(),
        };
        if is_moved {
            self.note("a session has another id", &new);
            (session.id, session.at) = (new, new);
        } else if leaves_note {
            self.client.delete_native(moved.as_bytes()).await?;
        }
        Ok(is_moved)
    }

    /// Where the session went that was under this id.
    pub(super) async fn moved_to(&self, id: &SessionId) -> Result<Option<SessionId>> {
        let note = self.client.get_native(id.moved_key(&self.type_name).as_bytes()).await;
        match note {
            Ok(note) => Ok(note.and_then(SessionId::parse)),
            // Of another kind: no note of ours.
            Err(Error::WrongType) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
