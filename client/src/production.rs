//! [`Cache::parts_or_produce`]: an export that neither this process nor the server ever holds twice, and this process never whole.
//!
//! It is sent in pieces as it is made, into the lease under which it is stored in the end, and read in parts. The MD5 of all that was
//! sent goes with the store: whatever connections may have done with the pieces, what is stored is what was written.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use expcache_core::entry::Hasher;
use expcache_core::grammar::etag_text;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::io::AsyncWrite;

use crate::Cache;
use crate::command::{Client, Fetch, Field, Release, Status};
use crate::error::{BoxError, Error, Result};
use crate::export::Export;
use crate::lease::{Claim, Held, token};
use crate::parts::Parts;
use crate::produce::{AT_ONCE, VAIN, pause};
use crate::request::{Request, RequestPlan};
use crate::time::ROUND;

/// So many bytes are sent at a time.
const PIECE_BYTES: usize = 256 << 10;
/// What is asked for.
const FIELDS: [Field; 5] = [Field::Value, Field::Etag, Field::Size, Field::Format, Field::Retry];

/// An export in the making, which is sent as it is written. Up to half a MiB of it is kept here. Dropped before it is
/// [finished](Production::finish), it is given up, and another may produce it.
///
/// It is a tokio `AsyncWrite`, for whatever writes into one.
pub struct Production {
    client: Client,
    request: Request,
    held: Held,
    hasher: Hasher,
    /// What is not sent yet.
    buffer: Vec<u8>,
    sent: u64,
    sending: Option<BoxFuture<'static, Result<u64>>>,
    failed: Option<Error>,
}

/// What a production that was finished is worth: its producer shows it.
#[derive(Debug)]
pub struct Finished(());

/// How an export in parts begins.
enum First {
    /// It is there.
    There(Parts),
    /// This caller is to make it.
    Ours(Arc<Claim>),
}

impl Cache {
    /// An export in parts of so many bytes: from the cache, as others have made it, or as `produce` makes it now. For what is too large to be
    /// held whole; all else is better served by [`Cache::get_or_produce`].
    ///
    /// - Only the server knows what is written, so without a server, or a lease of it, there is an error.
    /// - `produce` runs at most once over all processes for a key at a time, as part of this call: it ends if the caller is dropped. Who
    ///   may produce does, also where an older export is still there. It may take
    ///   [`Config::produce_timeout`](crate::Config::produce_timeout), and must not ask for what it produces.
    /// - Others wait, up to [`Config::patience`](crate::Config::patience); then it is [`Error::NoLease`].
    /// - What is invalidated while it is produced is not stored: [`Error::Fenced`].
    /// - What is not [finished](Production::finish) leaves nothing in the server.
    ///
    /// ```no_run
    /// # async fn example(cache: expcache_client::Cache) -> expcache_client::Result<()> {
    /// use expcache_client::{Error, Export};
    ///
    /// let request = cache.request("reports").format("csv").company(42).build()?;
    /// let produce = |mut production: expcache_client::Production| async move {
    ///     production.write("id,km\n").await?;
    ///     for id in 0..10_000_000 {
    ///         production.write(format!("{id},1\n")).await?;
    ///     }
    ///     production.finish(Export::default().records(10_000_000)).await
    /// };
    /// let mut parts = cache.parts_or_produce(&request, 256 << 10, produce).await?;
    /// while let Some(part) = parts.next().await? {
    ///     println!("{} of {} bytes", part.len(), parts.size());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn parts_or_produce<P, F, E>(&self, request: &Request, part_bytes: u64, produce: P) -> Result<Parts>
    where
        P: FnOnce(Production) -> F,
        F: Future<Output = Result<Finished, E>>,
        E: Into<BoxError>,
    {
        let (plan, part_bytes) = (&request.0, part_bytes.max(1));
        match self.first_part(plan, part_bytes).await? {
            First::There(parts) => return Ok(parts),
            First::Ours(claim) => self.produce_into(request, claim, produce).await?,
        }
        let made = self.client().fetch(&plan.fetch_part(part_bytes)).await?;
        Parts::of(self.client(), plan.key.clone(), part_bytes, made).ok_or(Error::Changed)
    }

    /// The first part, or the lease to make it. Waits for others.
    async fn first_part(&self, plan: &RequestPlan, part_bytes: u64) -> Result<First> {
        let deadline = Instant::now() + self.patience_of(plan);
        let (mut wait, mut in_vain) = (Duration::ZERO, 0);
        loop {
            let (claim, asked) = (Arc::new(self.claim(plan, token())), Instant::now());
            let mut fetch = plan.fetch_part(part_bytes).lease(self.lease_of(plan)).token(claim.token());
            if !wait.is_zero() {
                fetch = fetch.wait(wait.min(ROUND)).queue(wait);
            }
            let fetched = self.client().fetch(&fetch).await.inspect_err(|error| claim.settle_unless_lost(error))?;
            if fetched.lease.is_some() {
                return Ok(First::Ours(claim));
            }
            claim.settle();
            let retry = fetched.retry;
            if let Some(parts) = Parts::of(self.client(), plan.key.clone(), part_bytes, fetched) {
                return Ok(First::There(parts));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            wait = match retry {
                _ if left.is_zero() => return Err(Error::NoLease),
                // The key backs off, or the server lets only so many wait.
                Some(_) if !wait.is_zero() && asked.elapsed() < AT_ONCE.min(wait) => {
                    in_vain += 1;
                    if let Some(failed) = self.0.failures.present(&plan.key, Instant::now()) {
                        return Err(failed);
                    }
                    if in_vain >= VAIN {
                        return Err(Error::NoLease);
                    }
                    tokio::time::sleep(pause()).await;
                    left
                }
                Some(_) => left,
                // Nobody had it any more, and it was given to nobody: perhaps it is to who asks again.
                None if !wait.is_zero() => Duration::ZERO,
                None => return Err(Error::NoLease),
            };
        }
    }

    async fn produce_into<P, F, E>(&self, request: &Request, claim: Arc<Claim>, produce: P) -> Result<()>
    where
        P: FnOnce(Production) -> F,
        F: Future<Output = Result<Finished, E>>,
        E: Into<BoxError>,
    {
        let (plan, limit) = (&request.0, self.produce_timeout_of(&request.0));
        let held = Arc::clone(&claim).hold(None, Some(limit));
        let since = Instant::now();
        let production = Production {
            client: self.client().clone(),
            request: request.clone(),
            held,
            hasher: Hasher::default(),
            buffer: Vec::new(),
            sent: 0,
            sending: None,
            failed: None,
        };
        let made: Result<(), BoxError> = match tokio::time::timeout(limit, produce(production)).await {
            Ok(made) => made.map(drop).map_err(Into::into),
            Err(_) => Err(format!("it took longer than {limit:?}").into()),
        };
        if let Some(observer) = &self.config().observer {
            observer.produced(&plan.type_name, since.elapsed(), made.is_ok());
        }
        let Err(error) = made else {
            self.0.failures.forget(&plan.key);
            claim.settle();
            return Ok(());
        };
        let error = of_ours(error).unwrap_or_else(Error::of_producer);
        // What passes says nothing against the producer.
        let passes = error.is_unshared() || error.is_transient();
        let release = if passes { Release::unused() } else { self.failed(plan, &error) };
        self.give_up(plan, &claim, release).await;
        Err(error)
    }
}

impl RequestPlan {
    /// Of the payload as it is, since parts are never of what is encoded.
    fn fetch_part(&self, part_bytes: u64) -> Fetch {
        let fetch = Fetch::of(self.key.clone()).range(0, part_bytes).only(FIELDS);
        let fetch = self.max_age.into_iter().fold(fetch, Fetch::max_age);
        self.note.iter().fold(fetch, Fetch::note)
    }
}

impl Production {
    /// Writes some bytes behind those that were written. It waits only while more than half a MiB is on its way.
    pub async fn write(&mut self, chunk: impl AsRef<[u8]>) -> Result<()> {
        let mut rest = chunk.as_ref();
        while !rest.is_empty() {
            let taken = std::future::poll_fn(|context| self.poll_append(context, rest)).await?;
            rest = rest.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    /// Stores what was written, and then the export's payload, mostly nothing, with what else the export says.
    pub async fn finish(mut self, export: Export) -> Result<Finished> {
        let last = if export.payload.is_empty() {
            // What is left goes with the store.
            std::future::poll_fn(|context| self.poll_sent(context)).await?;
            self.take_buffer()
        } else {
            std::future::poll_fn(|context| self.poll_send(context, true)).await?;
            self.hasher.update(&export.payload);
            export.payload.clone()
        };
        self.held.note_made();
        let etag = etag_text(self.hasher.clone().finish());
        let hash: String = etag.iter().map(|digit| char::from(*digit)).collect();
        let set = self.request.0.set(&export, last).lease(self.held.token()).parts().hash(hash.as_str());
        let stored = self.client.set(&set).await;
        // A reply may have been lost, and the lease be over because it is stored.
        let is_open = stored.as_ref().is_err_and(|error| error.is_away() || matches!(error, Error::LeaseLost));
        if is_open && is_stored(&self.client, &self.request.0.key, &hash).await {
            return Ok(Finished(()));
        }
        stored.map(|_| Finished(()))
    }

    /// How many bytes were written.
    pub fn len(&self) -> u64 {
        self.sent + self.buffer.len() as u64
    }

    /// Was nothing written yet?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn take_buffer(&mut self) -> Bytes {
        let piece = std::mem::take(&mut self.buffer);
        self.hasher.update(&piece);
        piece.into()
    }

    fn poll_append(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        if self.buffer.len() >= PIECE_BYTES {
            ready!(self.poll_send(context, false))?;
        }
        let taken = bytes.len().min(PIECE_BYTES.saturating_sub(self.buffer.len()));
        self.buffer.extend_from_slice(bytes.get(..taken).unwrap_or_default());
        // What is enough begins to be sent, and more may be written meanwhile.
        if self.buffer.len() >= PIECE_BYTES
            && let Poll::Ready(Err(error)) = self.poll_send(context, false)
        {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(taken))
    }

    /// Begins to send what is enough for a piece, and is ready when there is room for more; or sends `all`, and is ready when it came.
    fn poll_send(&mut self, context: &mut Context<'_>, all: bool) -> Poll<Result<()>> {
        loop {
            if self.buffer.is_empty() || !all && self.buffer.len() < PIECE_BYTES {
                return if all { self.poll_sent(context) } else { Poll::Ready(Ok(())) };
            }
            ready!(self.poll_sent(context))?;
            let piece = self.take_buffer();
            let before = self.sent;
            self.sent += piece.len() as u64;
            let (client, request, token) = (self.client.clone(), self.request.clone(), self.held.token().to_owned());
            self.sending = Some(async move { send(&client, &request.0, &token, piece, before).await }.boxed());
            if let Poll::Ready(Err(error)) = self.poll_sent(context) {
                return Poll::Ready(Err(error));
            }
        }
    }

    /// Ready when nothing is on its way.
    fn poll_sent(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        if let Some(sending) = &mut self.sending {
            let sent = ready!(sending.poll_unpin(context));
            self.sending = None;
            self.failed = self.failed.take().or(sent.err());
        }
        // What is missing would be missing in the end.
        Poll::Ready(self.failed.clone().map_or(Ok(()), Err))
    }
}

impl AsyncWrite for Production {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_append(context, bytes).map_err(io::Error::other)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send(context, true).map_err(io::Error::other)
    }

    /// It is not stored before it is [finished](Production::finish).
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(context)
    }
}

impl std::fmt::Debug for Production {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Production({} bytes)", self.len())
    }
}

/// Is there a fresh entry with that MD5?
async fn is_stored(client: &Client, key: &Bytes, hash: &str) -> bool {
    let fetched = client.fetch(&Fetch::new(key).only([Field::Etag])).await;
    fetched.is_ok_and(|there| there.status == Status::Hit && there.etag.as_deref() == Some(hash))
}

/// An error of this crate, also where somebody wrote into a production as into a file.
fn of_ours(error: BoxError) -> Result<Error, BoxError> {
    match error.downcast::<Error>() {
        Ok(error) => Ok(*error),
        Err(error) => error.downcast::<io::Error>().and_then(|error| error.downcast::<Error>().map_err(Into::into)),
    }
}

/// Sends a piece, once: whether it came is asked if the reply was lost. Returns how many bytes the server has.
async fn send(client: &Client, plan: &RequestPlan, token: &str, piece: Bytes, before: u64) -> Result<u64> {
    let after = before + piece.len() as u64;
    let mut held = client.part(&plan.key, token, &piece).await;
    if held.as_ref().is_err_and(Error::is_away) {
        held = client.part(&plan.key, token, b"").await;
        if held.as_ref().is_ok_and(|held| *held == before) {
            held = client.part(&plan.key, token, &piece).await;
        }
    }
    match held? {
        held if held == after => Ok(held),
        // Another's, or one came twice.
        _ => Err(Error::LeaseLost),
    }
}
