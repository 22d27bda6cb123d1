//! Values of one type instead of payloads.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{BoxError, Error, Result};
use crate::{Cache, Export, How, Request, RequestBuilder};

/// A cache of values, which are kept as JSON: see [`Cache::typed`].
pub struct Typed<T> {
    cache: Cache,
    value: PhantomData<fn() -> T>,
}

impl<T> Clone for Typed<T> {
    fn clone(&self) -> Self {
        Self { cache: self.cache.clone(), value: PhantomData }
    }
}

impl Cache {
    /// The same cache, for values of one type. What is there and cannot be read as such, as another version of the program stored
    /// it, counts as missing.
    ///
    /// ```no_run
    /// #[derive(serde::Serialize, serde::Deserialize)]
    /// struct Session { user: u64 }
    ///
    /// # async fn example(cache: expcache_client::Cache) -> expcache_client::Result<()> {
    /// let sessions = cache.typed::<Session>();
    /// let request = sessions.request("sessions").key("export_cache:sessions:7").build()?;
    /// sessions.put(&request, &Session { user: 7 }).await?;
    /// if let Some(session) = sessions.get(&request).await? {
    ///     println!("{}", session.user);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn typed<T: Serialize + DeserializeOwned>(&self) -> Typed<T> {
        Typed { cache: self.clone(), value: PhantomData }
    }
}

impl<T: Serialize + DeserializeOwned> Typed<T> {
    /// The cache itself.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// A request in the making, of the format `json`.
    pub fn request(&self, type_name: impl AsRef<[u8]>) -> RequestBuilder {
        self.cache.request(type_name).format("json")
    }

    /// The value that is in the cache, if there is one.
    pub async fn get(&self, request: &Request) -> Result<Option<T>> {
        let Some(served) = self.cache.get(request).await? else { return Ok(None) };
        Ok(served.json().map_err(|unread| note(request, &unread)).ok())
    }

    /// Stores a value.
    pub async fn put(&self, request: &Request, value: &T) -> Result<()> {
        self.cache.put(request, Export::json(value)?).await
    }

    /// Removes the value.
    pub async fn remove(&self, request: &Request) -> Result<bool> {
        self.cache.remove(request).await
    }

    /// As [`Cache::get_or_produce`].
    pub async fn get_or_produce<P, F, E>(&self, request: &Request, produce: P) -> Result<T>
    where
        P: FnOnce() -> F + Clone + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let exported = || async move {
            let value = produce().await.map_err(Into::into)?;
            Export::json(&value).map_err(BoxError::from)
        };
        read_or_make(&self.cache, request, exported).await
    }
}

/// The value. What cannot be read counts as missing, once: what was made here and cannot be read back never will be.
pub(crate) async fn read_or_make<T, P, F>(cache: &Cache, request: &Request, produce: P) -> Result<T>
where
    T: DeserializeOwned,
    P: FnOnce() -> F + Clone + Send + 'static,
    F: Future<Output = Result<Export, BoxError>> + Send + 'static,
{
    let served = cache.get_or_produce(request, produce.clone()).await?;
    match served.json() {
        Err(unread) if matches!(served.how(), How::Hit | How::Stale | How::Waited) => {
            note(request, &unread);
            if let Err(error) = cache.remove(request).await {
                tracing::debug!(%error, "it could not be removed");
            }
            cache.get_or_produce(request, produce).await?.json()
        }
        read => read,
    }
}

fn note(request: &Request, unread: &Error) {
    tracing::debug!(%unread, key = %request.key().escape_ascii(), "it cannot be read and counts as missing");
}
