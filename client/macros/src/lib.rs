//! The attribute `#[cached]` of the crate `expcache-client`, where it is explained and tested.
//!
//! It is little more than a way of writing: the function's arguments become the filters of a request, its body the producer.

use proc_macro::TokenStream;
use proc_macro2::{Span, TokenStream as Tokens};
use quote::quote_spanned;
use syn::ext::IdentExt as _;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Error, Expr, FnArg, Ident, ItemFn, Pat, Token};

/// Caches what an async function returns.
///
/// ```text
/// #[cached(type = "trips", company = &company, grace = Duration::from_secs(300))]
/// async fn trips(cache: &Cache, company: String, month: u8) -> Result<Vec<Trip>, MyError> { … }
/// ```
///
/// - The first parameter is the cache, by reference. The body does not see it.
/// - All others make the key, under their names: `Serialize + Clone + Send + 'static`. They stand there as JSON: a float that is
///   not finite is the same as `None`.
/// - So does the function, as the field `function`: its module's path and its name (`my_app::reports::trips`), or what
///   `function = "…"` says. Say it where the value is to outlive a renaming, be shared by several functions or programs, or
///   where two functions have the same path, as those within other functions may.
/// - `type` is required; every other word is a method of `RequestBuilder` with its argument (`company = id`, `tag = "x"`,
///   `ttl = Duration::…`), which may speak of the parameters, and have them: it is given clones. With `key = …` that alone is
///   the key.
/// - It returns a `Result` whose value is `Serialize + DeserializeOwned` (it is kept as JSON), and whose error is
///   `From<expcache_client::Error>` and may be sent to other threads. Of a failed production that is `Error::Producer`.
/// - What is in the cache and cannot be read as the value, as another version of the program stored it, is removed, and counts
///   as missing.
#[proc_macro_attribute]
pub fn cached(options: TokenStream, function: TokenStream) -> TokenStream {
    let options = syn::parse_macro_input!(options as Options);
    let function = syn::parse_macro_input!(function as ItemFn);
    expand(&options, function).unwrap_or_else(|error| error.to_compile_error()).into()
}

struct Options {
    type_name: Expr,
    function: Option<Expr>,
    others: Vec<(Ident, Expr)>,
}

impl Parse for Options {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let given = Punctuated::<Setting, Token![,]>::parse_terminated(input)?;
        let mut others: Vec<(Ident, Expr)> = given.into_iter().map(|setting| (setting.0, setting.1)).collect();
        let type_name = take(&mut others, "type")?;
        let function = take(&mut others, "function")?;
        let type_name = type_name.ok_or_else(|| input.error("say `type = \"…\"`"))?;
        Ok(Self { type_name, function, others })
    }
}

/// What is said of a name, which may be said but once.
fn take(settings: &mut Vec<(Ident, Expr)>, name: &str) -> syn::Result<Option<Expr>> {
    let (mut named, others): (Vec<_>, Vec<_>) =
        std::mem::take(settings).into_iter().partition(|(word, _)| word == name);
    *settings = others;
    let value = named.pop().map(|(_, value)| value);
    match named.pop() {
        None => Ok(value),
        Some((again, _)) => Err(Error::new(again.span(), format!("`{name}` is said twice"))),
    }
}

/// `name = expression`.
struct Setting(Ident, Expr);

impl Parse for Setting {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let name = Ident::parse_any(input)?;
        input.parse::<Token![=]>()?;
        Ok(Self(name, input.parse()?))
    }
}

fn expand(options: &Options, mut function: ItemFn) -> syn::Result<Tokens> {
    if function.sig.asyncness.is_none() {
        return Err(Error::new_spanned(&function.sig, "only async functions are cached"));
    }
    let names = parameters(&function)?;
    let Some((cache, arguments)) = names.split_first() else {
        return Err(Error::new_spanned(&function.sig, "the first parameter is the cache"));
    };
    let texts = arguments.iter().map(|argument| argument.unraw().to_string());
    let settings = options.others.iter().map(|(name, value)| quote_spanned!(name.span()=> .#name(#value)));
    let type_name = &options.type_name;

    let (attributes, visibility, mut signature) = (&function.attrs, &function.vis, function.sig.clone());
    signature.inputs.iter_mut().for_each(forget_mut);
    let name = signature.ident.unraw().to_string();
    let in_key = match &options.function {
        Some(said) => quote_spanned!(Span::call_site()=> #said),
        // The call's site is where the function is; `module_path!` tells that.
        None => quote_spanned!(Span::call_site()=> ::core::concat!(::core::module_path!(), "::", #name)),
    };
    function.sig.ident = Ident::new("__expcache_produce", Span::mixed_site());
    function.sig.inputs = function.sig.inputs.into_iter().skip(1).collect();
    let (produce, inner, body) = (&function.sig.ident, &function.sig, &function.block);

    // Names of our own must not be taken for the parameters of the function, nor these for them.
    Ok(quote_spanned! {Span::mixed_site()=>
        #(#attributes)* #visibility #signature {
            #inner #body
            let request = {
                #(let #arguments = ::core::clone::Clone::clone(&#arguments);)*
                let filters = ::std::collections::BTreeMap::from([
                    #((#texts, ::expcache_client::__argument(&#arguments)?)),*
                ] as [(&str, ::expcache_client::__Value); _]);
                ::expcache_client::RequestBuilder::filters(#cache.request(#type_name), &filters)
                    .field("function", #in_key)
                    #(#settings)*
                    .format("json")
                    .build()?
            };
            let produced = move || async move {
                match #produce(#(#arguments),*).await {
                    ::core::result::Result::Ok(value) => {
                        ::expcache_client::Export::json(&value).map_err(::expcache_client::BoxError::from)
                    }
                    ::core::result::Result::Err(error) => {
                        ::core::result::Result::Err(::expcache_client::BoxError::from(error))
                    }
                }
            };
            ::core::result::Result::Ok(::expcache_client::__cached(#cache, &request, produced).await?)
        }
    })
}

/// Of a `mut` parameter it is the body's copy that is changed.
fn forget_mut(input: &mut FnArg) {
    if let FnArg::Typed(typed) = input
        && let Pat::Ident(pattern) = typed.pat.as_mut()
    {
        pattern.mutability = None;
    }
}

fn parameters(function: &ItemFn) -> syn::Result<Vec<Ident>> {
    let name = |input: &FnArg| match input {
        FnArg::Typed(typed) => match typed.pat.as_ref() {
            Pat::Ident(pattern) => Ok(pattern.ident.clone()),
            pattern => Err(Error::new_spanned(pattern, "a parameter of a cached function needs a name")),
        },
        FnArg::Receiver(receiver) => Err(Error::new_spanned(receiver, "methods cannot be cached; wrap a function")),
    };
    function.sig.inputs.iter().map(name).collect()
}
