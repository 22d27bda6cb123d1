//! What the code that `#[cached]` writes calls.

use std::any::{TypeId, type_name};
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use expcache_core::key::MAX_JSON_BYTES;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::{BoxError, Error, Result};
use crate::exact::{Exact, Integers};
use crate::lock::locked;
use crate::typed::read_or_make;
use crate::{Cache, Export, Request, RequestBuilder, WarmJob};

/// What makes a part of a key.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be part of the key of a cached function",
    label = "is not `Serialize`",
    note = "write `skip(…)` with the parameter's name if it makes no difference to the result, or `key = …` to make the key yourself"
)]
pub trait Argument {
    /// As it stands in the key.
    fn value(&self) -> Result<Value>;
    /// As it stands in META.
    fn text(&self) -> Result<String>;
}

#[diagnostic::do_not_recommend]
impl<T: Serialize + ?Sized> Argument for T {
    fn value(&self) -> Result<Value> {
        // It stands in the object of all arguments.
        let value = serde_json::to_value(Exact::new(self, Integers::AsText, 1));
        value.map_err(|error| Error::Request(format!("an argument: {error}")))
    }

    fn text(&self) -> Result<String> {
        let text = serde_json::to_string(&Exact::new(self, Integers::AsTheyAre, 1));
        text.map_err(|error| Error::Request(format!("an argument: {error}")))
    }
}

/// An argument as it stands in the key.
pub fn argument(argument: &(impl Argument + ?Sized)) -> Result<Value> {
    argument.value()
}

/// What is read from the META of a warmed function.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be made again from the META of a warmed function",
    label = "is not `DeserializeOwned`",
    note = "write `skip(…)` with the parameter's name if it makes no difference to the result: then it is given to the function that `warm = …` names"
)]
pub trait Rebuilt: Sized {
    fn rebuilt(json: &str) -> serde_json::Result<Self>;
}

#[diagnostic::do_not_recommend]
impl<T: DeserializeOwned> Rebuilt for T {
    fn rebuilt(json: &str) -> serde_json::Result<Self> {
        serde_json::from_str(json)
    }
}

/// An argument as it stands in META, where it is to be read again.
pub fn text(argument: &(impl Argument + ?Sized)) -> Result<String> {
    argument.text()
}

/// With the arguments as its META; those that are too long for that are not warmed.
pub fn described(request: RequestBuilder, arguments: &[(&str, String)]) -> RequestBuilder {
    let quoted = |(name, json): &(&str, String)| format!("{}:{json}", Value::from(*name));
    let members: Vec<String> = arguments.iter().map(quoted).collect();
    let meta = format!("{{{}}}", members.join(","));
    if meta.len() <= MAX_JSON_BYTES { request.meta(meta) } else { request }
}

/// An argument of the call that a key was produced for.
pub fn rebuilt<T: Rebuilt>(job: &WarmJob, argument: &str) -> Result<T> {
    let arguments: HashMap<String, Box<RawValue>> = job.meta()?;
    let json = arguments.get(argument).ok_or_else(|| Error::Request(format!("its META has no `{argument}`")))?;
    T::rebuilt(json.get()).map_err(|error| Error::Request(format!("`{argument}` in its META: {error}")))
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

/// The same of a function, said by another of its place: a closure is in that one.
pub fn identity_of<C: 'static>(
    _within: &C,
    package: &str,
    result: &str,
    said: Option<&str>,
    (own, function): (&str, &str),
) -> String {
    let own_path = type_name::<C>().trim_end_matches("::{{closure}}");
    let path = renamed(own_path, own, function);
    match said {
        Some(said) => [said, types_in(&path)].concat(),
        None => format!("{package} {path} {result}"),
    }
}

/// The path with another last name; the types for which it was made come after that.
fn renamed(path: &str, from: &str, to: &str) -> String {
    let is_last = |(_, rest): &(&str, &str)| rest.is_empty() || rest.starts_with('<');
    let places =
        path.rmatch_indices(from).filter_map(|(at, name)| Some((path.get(..at)?, path.get(at + name.len()..)?)));
    let place = places.filter(|(before, _)| before.ends_with("::")).find(is_last);
    place.map_or_else(|| path.to_owned(), |(before, rest)| [before, to, rest].concat())
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

#[cfg(test)]
mod tests {
    use super::renamed;

    #[test]
    fn a_function_is_named_by_the_one_beside_it() {
        for (path, expected) in [
            ("a::warm_f", "a::f"),
            ("a::warm_f::warm_f", "a::warm_f::f"),
            ("a::warm_f<b::warm_f, 1>", "a::f<b::warm_f, 1>"),
            ("a::T<b::X>::warm_f", "a::T<b::X>::f"),
            ("<a::S as a::L<b::X>>::warm_f<u8>", "<a::S as a::L<b::X>>::f<u8>"),
            ("a::not_warm_f", "a::not_warm_f"),
        ] {
            assert_eq!(renamed(path, "warm_f", "f"), expected);
        }
    }
}
