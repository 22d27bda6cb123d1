//! A connection that is made when it is first needed, and anew after it was lost. One caller connects, the others wait for it.

use std::sync::{Arc, RwLock};

use redis::RedisResult;
use tokio::sync::Mutex;

#[derive(Debug)]
pub(crate) struct Lazy<C> {
    current: RwLock<Option<Arc<C>>>,
    connecting: Mutex<()>,
}

impl<C> Default for Lazy<C> {
    fn default() -> Self {
        Self { current: RwLock::new(None), connecting: Mutex::new(()) }
    }
}

impl<C> Lazy<C> {
    pub(crate) async fn get<F>(&self, connect: impl FnOnce() -> F) -> RedisResult<Arc<C>>
    where
        F: Future<Output = RedisResult<C>>,
    {
        if let Some(connection) = self.current() {
            return Ok(connection);
        }
        let _turn = self.connecting.lock().await;
        if let Some(connection) = self.current() {
            return Ok(connection);
        }
        let connection = Arc::new(connect().await?);
        self.replace(Some(Arc::clone(&connection)));
        Ok(connection)
    }

    /// Forgets the connection that failed, unless another has taken its place meanwhile.
    pub(crate) fn discard(&self, failed: &Arc<C>) {
        if self.current().is_some_and(|current| Arc::ptr_eq(&current, failed)) {
            self.replace(None);
        }
    }

    fn current(&self) -> Option<Arc<C>> {
        self.current.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn replace(&self, connection: Option<Arc<C>>) {
        *self.current.write().unwrap_or_else(std::sync::PoisonError::into_inner) = connection;
    }
}
