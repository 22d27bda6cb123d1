//! The attribute `#[cached]` of the crate `expcache-client`, where it is explained and tested.
//!
//! It is little more than a way of writing: the function's arguments become the filters of a request, its body the producer.

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Tokens;
use quote::{format_ident, quote};
use syn::ext::IdentExt as _;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Error, Expr, FnArg, Ident, ItemFn, Pat, Token};

/// Caches what an async function returns.
///
/// ```text
/// #[cached(type = "trips", company = company, grace = Duration::from_secs(300))]
/// async fn trips(cache: &Cache, company: u64, month: u8) -> Result<Vec<Trip>, MyError> { … }
/// ```
///
/// - The first parameter is the cache, by reference. The body does not see it.
/// - All others make the key, under their names: `Serialize + Clone + Send + 'static`.
/// - `type` is required; every other word is a method of `RequestBuilder` with its argument (`company = id`, `tag = "x"`,
///   `ttl = Duration::…`), which may speak of the parameters.
/// - It returns a `Result` whose value is `Serialize + DeserializeOwned` (it is kept as JSON), and whose error is
///   `From<expcache_client::Error>` and may be sent to other threads. Of a failed production that is `Error::Producer`.
#[proc_macro_attribute]
pub fn cached(options: TokenStream, function: TokenStream) -> TokenStream {
    let options = syn::parse_macro_input!(options as Options);
    let function = syn::parse_macro_input!(function as ItemFn);
    expand(&options, function).unwrap_or_else(|error| error.to_compile_error()).into()
}

struct Options {
    type_name: Expr,
    others: Vec<(Ident, Expr)>,
}

impl Parse for Options {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let given = Punctuated::<Setting, Token![,]>::parse_terminated(input)?;
        let (types, others): (Vec<_>, Vec<_>) =
            given.into_iter().map(|s| (s.0, s.1)).partition(|(name, _)| name == "type");
        match <[_; 1]>::try_from(types) {
            Ok([(_, type_name)]) => Ok(Self { type_name, others }),
            Err(_) => Err(input.error("say `type = \"…\"`, once")),
        }
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
    let texts = arguments.iter().map(Ident::to_string);
    let type_name = &options.type_name;
    let settings = options.others.iter().map(|(name, value)| quote!(.#name(#value)));

    let (attributes, visibility, signature) = (&function.attrs, &function.vis, function.sig.clone());
    let produce = format_ident!("produce_{}", signature.ident.unraw());
    function.sig.ident = produce.clone();
    function.sig.inputs = function.sig.inputs.into_iter().skip(1).collect();
    let (inner, body) = (&function.sig, &function.block);

    Ok(quote! {
        #(#attributes)* #visibility #signature {
            #inner #body
            let request = ::expcache_client::RequestBuilder::filters(
                #cache.request(#type_name),
                &::std::collections::BTreeMap::from([
                    #((#texts, ::expcache_client::__argument(&#arguments)?)),*
                ] as [(&str, ::expcache_client::__Value); _]),
            )
            #(#settings)*
            .format("json")
            .build()?;
            let produced = move || async move {
                match #produce(#(#arguments),*).await {
                    Ok(value) => ::expcache_client::Export::json(&value).map_err(::expcache_client::BoxError::from),
                    Err(error) => Err(::expcache_client::BoxError::from(error)),
                }
            };
            Ok(#cache.get_or_produce(&request, produced).await?.json()?)
        }
    })
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
