//! A connection that is made when it is first needed, and anew after it was given up. Connecting is a task of its own: the
//! callers who want the connection wait for it together, and if one of them loses patience it goes on for the next.

use std::sync::{Arc, Mutex, RwLock};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use redis::{ErrorKind, RedisResult};

use crate::lock::locked;

pub(crate) struct Lazy<C> {
    current: Arc<RwLock<Option<Arc<C>>>>,
    connecting: Once<Arc<C>>,
}

impl<C> Default for Lazy<C> {
    fn default() -> Self {
        Self { current: Arc::default(), connecting: Once::default() }
    }
}

impl<C: Send + Sync + 'static> Lazy<C> {
    pub(crate) async fn get<F>(&self, connect: impl FnOnce() -> F) -> RedisResult<Arc<C>>
    where
        F: Future<Output = RedisResult<C>> + Send + 'static,
    {
        if let Some(connection) = self.current() {
            return Ok(connection);
        }
        let begin = || {
            let (current, connecting) = (Arc::clone(&self.current), connect());
            async move {
                let connection = Arc::new(connecting.await?);
                replace(&current, Some(Arc::clone(&connection)));
                Ok(connection)
            }
        };
        self.connecting.join(begin).await
    }

    /// Forgets a connection, unless another has taken its place meanwhile. Who is using it may go on.
    pub(crate) fn discard(&self, failed: &Arc<C>) {
        if self.current().is_some_and(|current| Arc::ptr_eq(&current, failed)) {
            replace(&self.current, None);
        }
    }

    pub(crate) fn current(&self) -> Option<Arc<C>> {
        self.current.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

fn replace<C>(current: &RwLock<Option<Arc<C>>>, connection: Option<Arc<C>>) {
    *current.write().unwrap_or_else(std::sync::PoisonError::into_inner) = connection;
}

/// Something that is done once at a time: whoever wants it while it is being done waits for that.
pub(crate) struct Once<T> {
    running: Arc<Mutex<Option<Running<T>>>>,
}

type Running<T> = Shared<BoxFuture<'static, RedisResult<T>>>;

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self { running: Arc::default() }
    }
}

impl<T: Clone + Send + Sync + 'static> Once<T> {
    /// Must be called within a runtime.
    pub(crate) fn join<F>(&self, begin: impl FnOnce() -> F) -> Running<T>
    where
        F: Future<Output = RedisResult<T>> + Send + 'static,
    {
        let mut running = locked(&self.running);
        if let Some(running) = running.as_ref() {
            return running.clone();
        }
        let (over, task) = (Over(Arc::clone(&self.running)), begin());
        let (tell, told) = tokio::sync::oneshot::channel();
        let done = told.map(|done| done.unwrap_or_else(|_| Err((ErrorKind::Io, "it was given up").into())));
        let shared = done.boxed().shared();
        *running = Some(shared.clone());
        // A runtime that is going drops the task at once, and `over` with it: that must not find this locked.
        drop(running);
        tokio::spawn(async move {
            let done = task.await;
            drop(over);
            let _ = tell.send(done);
        });
        shared
    }
}

/// Dropped when the task is over, however it ended.
struct Over<T>(Arc<Mutex<Option<Running<T>>>>);

impl<T> Drop for Over<T> {
    fn drop(&mut self) {
        *locked(&self.0) = None;
    }
}
