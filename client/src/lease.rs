//! Leases, from the moment at which one is asked for: whatever happens to who asked, none is left behind that nobody uses.
//!
//! Who asks makes up the token, so a lease can be given back although the reply that grants it was lost. A [`Claim`] is such a
//! token: dropped before it is settled, wherever that happens, it is given back. While something is produced under it, the lease
//! is renewed ([`Held`]).
//!
//! Both are done by a [`Keeper`]: a thread with a runtime and connections of its own. The application's threads may be kept busy
//! by producers that block them, and its runtime may go; others must not have to wait for that. The thread begins with the first
//! production.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use expcache_core::grammar::etag_text;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::command::{Client, Release};
use crate::config::Config;
use crate::error::Error;
use crate::memory::Ticket;

/// How long to wait before a lease is given back again, at first.
const PAUSE: Duration = Duration::from_millis(25);

/// For how many tokens the system is asked for randomness at a time: each caller who asks for an entry makes one up.
const TOKENS: usize = 64;

type Work = Box<dyn FnOnce(Client) -> BoxFuture<'static, ()> + Send>;

enum Message {
    Work(Work),
    /// Tell when all is done that there is to do.
    Finish(oneshot::Sender<()>),
}

pub(crate) struct Keeper {
    config: Config,
    /// `None` if there can be no thread: then leases end by themselves.
    messages: OnceLock<Option<UnboundedSender<Message>>>,
}

impl Keeper {
    /// What it fails at is nobody's command, so no observer is told.
    pub(crate) fn new(config: Config) -> Self {
        Self { config: Config { observer: None, ..config.connections(1) }, messages: OnceLock::new() }
    }

    fn tell(&self, message: Message) {
        if let Some(messages) = self.messages.get_or_init(|| begin(self.config.clone())) {
            let _ = messages.send(message);
        }
    }

    fn work<F: Future<Output = ()> + Send + 'static>(&self, work: impl FnOnce(Client) -> F + Send + 'static) {
        self.tell(Message::Work(Box::new(|client| work(client).boxed())));
    }

    /// Waits until what is to be given back has been.
    pub(crate) async fn finish(&self) {
        if self.messages.get().is_some() {
            let (tell, told) = oneshot::channel();
            self.tell(Message::Finish(tell));
            let _ = told.await;
        }
    }
}

fn begin(config: Config) -> Option<UnboundedSender<Message>> {
    let (sender, messages) = unbounded_channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let keep = move || runtime.block_on(keep(config, messages));
    let thread = std::thread::Builder::new().name("expcache-leases".to_owned()).spawn(keep);
    thread.ok().map(|_| sender)
}

async fn keep(config: Config, mut messages: UnboundedReceiver<Message>) {
    let limit = config.timeout;
    let Ok(client) = Client::open(config) else { return };
    let mut working = JoinSet::new();
    loop {
        tokio::select! {
            message = messages.recv() => match message {
                Some(Message::Work(work)) => drop(working.spawn(work(client.clone()))),
                Some(Message::Finish(done)) => {
                    while working.join_next().await.is_some() {}
                    let _ = done.send(());
                }
                None => break,
            },
            Some(_) = working.join_next() => {}
        }
    }
    let finishing = async { while working.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(limit, finishing).await;
}

/// A lease that was asked for, and perhaps is ours.
pub(crate) struct Claim {
    keeper: Arc<Keeper>,
    key: Bytes,
    token: String,
    time: Duration,
    settled: AtomicBool,
    is_job: bool,
}

impl Claim {
    /// Under a token that this process has made up.
    pub(crate) fn new(keeper: &Arc<Keeper>, key: &Bytes, token: String, time: Duration) -> Self {
        let (keeper, key) = (Arc::clone(keeper), key.clone());
        Self { keeper, key, token, time, settled: AtomicBool::new(false), is_job: false }
    }

    /// Of a lease that the server granted, with the key to be produced, under a token of its own.
    pub(crate) fn of_job(keeper: &Arc<Keeper>, key: &Bytes, token: String, time: Duration) -> Self {
        let (keeper, key) = (Arc::clone(keeper), key.clone());
        Self { keeper, key, token, time, settled: AtomicBool::new(false), is_job: true }
    }

    /// Would the server offer the key again at once if it were given back?
    pub(crate) fn is_job(&self) -> bool {
        self.is_job
    }

    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// There is nothing to give back: it was not granted, it is used, it was given back.
    pub(crate) fn settle(&self) {
        self.settled.store(true, Ordering::Release);
    }

    /// Nothing was granted, unless the reply that says so was lost.
    pub(crate) fn settle_unless_lost(&self, error: &Error) {
        if !error.is_away() || matches!(error, Error::CircuitOpen(_)) {
            self.settle();
        }
    }

    /// Renews the lease until it is let go, or until nothing was made for so long.
    pub(crate) fn hold(self: Arc<Self>, ticket: Option<Ticket>, limit: Option<Duration>) -> Held {
        let (let_go, gone) = oneshot::channel();
        let made = Arc::new(AtomicBool::new(false));
        let (claim, is_made) = (Arc::downgrade(&self), Arc::clone(&made));
        let (key, token, time) = (self.key.clone(), self.token.clone(), self.time);
        self.keeper.work(move |client| async move {
            let renewing = renew(&client, &key, &token, time, limit, &is_made);
            let failed = tokio::select! {
                failed = renewing => failed,
                _ = gone => return,
            };
            if let Some(claim) = claim.upgrade() {
                claim.settle();
            }
            if let Some(failed) = failed {
                let _ = client.release(&key, &token, &failed).await;
            }
        });
        Held { claim: self, since: Instant::now(), ticket, made, _let_go: let_go }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.settled.load(Ordering::Acquire) {
            let (key, token, time) = (self.key.clone(), std::mem::take(&mut self.token), self.time);
            self.keeper.work(move |client| async move {
                let _ = tokio::time::timeout(time, give_back(&client, &key, &token)).await;
            });
        }
    }
}

/// Until it is given back: the server may be away for a moment, and the command that asks for it may still be on its way.
async fn give_back(client: &Client, key: &Bytes, token: &str) {
    let mut pause = PAUSE;
    while !client.release(key, token, &Release::unused()).await.is_ok_and(|was_ours| was_ours) {
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}

/// Until the lease is lost; or until there should be something that was made, and how the lease is to be released then.
async fn renew(
    client: &Client,
    key: &Bytes,
    token: &str,
    time: Duration,
    limit: Option<Duration>,
    is_made: &AtomicBool,
) -> Option<Release> {
    let begun = Instant::now();
    loop {
        tokio::time::sleep(time / 3).await;
        // Who produces notices it himself, unless his thread is blocked: so it is left to him for a moment.
        if limit.is_some_and(|limit| begun.elapsed() > limit + time) && !is_made.load(Ordering::Acquire) {
            return Some(Release::failed("it took too long"));
        }
        if let Ok(false) = client.renew(key, token, time).await {
            return None;
        }
    }
}

/// A lease that is renewed as long as this is there.
pub(crate) struct Held {
    claim: Arc<Claim>,
    pub(crate) since: Instant,
    /// Of the fallback, from before the production.
    pub(crate) ticket: Option<Ticket>,
    made: Arc<AtomicBool>,
    _let_go: oneshot::Sender<()>,
}

impl Held {
    pub(crate) fn token(&self) -> &str {
        self.claim.token()
    }

    /// What is made now takes its time to be sent.
    pub(crate) fn note_made(&self) {
        self.made.store(true, Ordering::Release);
    }

    /// Ends the renewal. Dropped unsettled, the claim is given back.
    pub(crate) fn let_go(self) -> Arc<Claim> {
        self.claim
    }
}

/// Nobody can guess it: 128 bits of the system's randomness.
pub(crate) fn token() -> String {
    thread_local!(static SPARE: RefCell<Vec<[u8; 16]>> = const { RefCell::new(Vec::new()) });
    let bits = SPARE.with_borrow_mut(|spare| {
        if spare.is_empty() {
            let mut bits = [[0; 16]; TOKENS];
            // A system without any has fastrand's at least, and the server sees to it that a token is nobody else's.
            if getrandom::fill(bits.as_flattened_mut()).is_err() {
                fastrand::fill(bits.as_flattened_mut());
            }
            spare.extend(bits);
        }
        spare.pop().unwrap_or_default()
    });
    String::from_utf8(etag_text(bits).to_vec()).unwrap_or_default()
}
