//! What the code that `#[cached]` writes calls.

use std::any::{TypeId, type_name};
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{BoxError, Error, Result};
use crate::exact::{Exact, Integers};
use crate::lock::locked;
use crate::typed::read_or_make;
use crate::{Cache, Export, Request};

/// What makes a part of a key.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be part of the key of a cached function",
    label = "is not `Serialize`",
    note = "write `skip(…)` with the parameter's name if it makes no difference to the result, or `key = …` to make the key yourself"
)]
pub trait Argument {
    /// As it stands in the key.
    fn value(&self) -> Result<Value>;
}

#[diagnostic::do_not_recommend]
impl<T: Serialize + ?Sized> Argument for T {
    fn value(&self) -> Result<Value> {
        // It stands in the object of all arguments.
        let value = serde_json::to_value(Exact::new(self, Integers::AsText, 1));
        value.map_err(|error| Error::Request(format!("an argument: {error}")))
    }
}

/// An argument as it stands in the key.
pub fn argument(argument: &(impl Argument + ?Sized)) -> Result<Value> {
    argument.value()
}

/// What is lent to a cached function and kept for its production, which may outlive the call.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be lent to a cached function",
    label = "is not `Clone`",
    note = "the production may outlive the call, so it gets a copy: derive `Clone`, or take it as an `Arc`"
)]
pub trait Lent {
    type Owned: Clone;
    fn to_own(&self) -> Self::Owned;
}

#[diagnostic::do_not_recommend]
impl<T: ToOwned<Owned: Clone> + ?Sized> Lent for T {
    type Owned = T::Owned;

    fn to_own(&self) -> T::Owned {
        self.to_owned()
    }
}

/// A copy to keep.
pub fn owned<T: Lent + ?Sized>(lent: &T) -> T::Owned {
    lent.to_own()
}

/// The value as it is kept; what would not come back as it is now is refused.
pub fn export(value: &impl Serialize) -> Result<Export> {
    let json = serde_json::to_vec(&Exact::new(value, Integers::AsTheyAre, 0)).map_err(Error::payload)?;
    Ok(Export::new(json).format("json"))
}

/// Who a function is, so that no other has its entries: the package, and the path with the types for which it was made. A closure
/// in it is named by these, those of its `impl` included. Should two of one process be named alike, the second is refused.
pub fn identity<C: 'static>(_within: &C, package: &str, result: &str, said: Option<&str>) -> Result<String> {
    static NAMED: LazyLock<Mutex<HashMap<String, TypeId>>> = LazyLock::new(Mutex::default);

    let path = type_name::<C>().trim_end_matches("::{{closure}}");
    if let Some(said) = said {
        return Ok([said, types_in(path)].concat());
    }
    let identity = format!("{package} {path} {result}");
    if *locked(&NAMED).entry(identity.clone()).or_insert(TypeId::of::<C>()) == TypeId::of::<C>() {
        return Ok(identity);
    }
    Err(Error::Request(format!("there are two cached functions {path}: tell them apart by `function = \"…\"`")))
}

/// For which types it was made.
fn types_in(path: &str) -> &str {
    path.find('<').and_then(|first| path.get(first..=path.rfind('>')?)).unwrap_or_default()
}

/// What cannot be read counts as missing, once: what was made here and cannot be read back never will be.
pub async fn cached<T, P, F>(cache: &Cache, request: &Request, produce: P) -> Result<T>
where
    T: DeserializeOwned,
    P: FnOnce() -> F + Clone + Send + 'static,
    F: Future<Output = Result<Export, BoxError>> + Send + 'static,
{
    read_or_make(cache, request, produce).await.map_err(|error| match error.producer::<Error>() {
        Some(payload @ Error::Payload(_)) => payload.clone(),
        _ => error,
    })
}
