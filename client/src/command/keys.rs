//! `EXPCACHE.KEYFOR`, for those who want the server's word; [`Request`](crate::Request) derives the same key without one.

use bytes::Bytes;
use expcache_core::key::KeyRequest;

use super::client::Client;
use crate::error::Result;
use crate::link::{Call, Route};
use crate::reply;
use crate::words::words_of;

impl Client {
    /// The key that the server derives from a request.
    pub async fn key_for(&self, request: &KeyRequest<'_>) -> Result<Bytes> {
        let mut call = Call::new("EXPCACHE.KEYFOR", Route::Any);
        request.write(&mut words_of(&mut call.cmd));
        reply::bytes(self.call(call).await?)
    }
}
