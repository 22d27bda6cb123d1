//! `EXPCACHE.KEYFOR`, for those who want the server's word; [`Request`](crate::Request) derives the same key without one.

use bytes::Bytes;
use expcache_core::key::KeyRequest;

use super::client::Client;
use crate::error::Result;
use crate::link::{Call, Route};
use crate::reply;
use crate::words::option;

impl Client {
    /// The key that the server derives from a request.
    pub async fn key_for(&self, request: &KeyRequest<'_>) -> Result<Bytes> {
        let mut call = Call::new("EXPCACHE.KEYFOR", Route::Any);
        let cmd = &mut call.cmd;
        cmd.arg(request.type_name);
        option(cmd, "FORMAT", request.format);
        option(cmd, "FILTERS", request.filters);
        option(cmd, "COMPANY", request.company);
        option(cmd, "USER", request.user);
        option(cmd, "PROJECT", request.project);
        for (name, value) in &request.fields {
            cmd.arg("FIELD").arg(*name).arg(*value);
        }
        option(cmd, "HASHTAG", request.hashtag);
        reply::bytes(self.call(call).await?)
    }
}
