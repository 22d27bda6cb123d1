//! The attribute `#[cached]` of the crate `expcache-client`, where it is explained and tested.
//!
//! It is little more than a way of writing: the function's arguments become the filters of a request, its body the producer.

use proc_macro::TokenStream;
use proc_macro2::{Group, Ident, Span, TokenStream as Tokens, TokenTree};
use quote::{ToTokens, quote_spanned};
use syn::ext::IdentExt as _;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Error, Expr, FnArg, ItemFn, Pat, PatIdent, ReturnType, Token, Type};

/// Caches what an async function or method returns.
///
/// ```text
/// #[cached(type = "trips", company = company, skip(db), grace = Duration::from_secs(300))]
/// async fn trips(cache: &Cache, db: &Pool, company: &str, month: u8) -> Result<Vec<Trip>, MyError> { … }
///
/// impl Reports {
///     #[cached(type = "reports", cache = self.cache, skip(self))]
///     async fn yearly(&self, year: u16) -> Result<Report, MyError> { … }
/// }
/// ```
///
/// - The cache is the first parameter, by reference, which the body does not see; or what `cache = …` says, such as `self.cache`.
/// - All other parameters make the key, under their names, `self` too: they are `Serialize`. What `skip(…)` names does not; that is
///   for what makes no difference to the result, as a pool of connections. With `key = …` that alone is the key.
/// - They are cloned for the production, which may outlive the call: `Clone + Send + Sync + 'static`. What is lent (`&str`, `&[T]`,
///   `&T`, `&self`) is owned meanwhile.
/// - They stand in the key as JSON. Numbers that are not finite, and what is nested deeper than 127, are errors; sets without an order
///   are the same in any.
/// - So does the function stand in the key, as the field `function`: its package and crate, the path with the types for which it was
///   made (those of its `impl`, and its generic arguments), and the type of its result. Or what `function = "…"` says, with
///   the types: say it where the value is to outlive a renaming, or be shared by several functions or programs. Two functions of
///   one path in one program, as those of one name in two blocks of a function, are an error of the call of the second ("there are
///   two cached functions …"): a macro sees one function, and nothing of where it stands. Programs of one name
///   that share a server need a prefix of their own (`Config::prefix`).
/// - `type` is required; every other word is a method of `RequestBuilder` with its argument (`company = id`, `tag = "x"`,
///   `ttl = Duration::…`), which may speak of the parameters, and have them: it is given clones.
/// - `warm = warm_trips` makes a function of that name beside it, by which a `Warmer` is given this one as the handler of its type:
///   `warm_trips(cache.warmer(), &pool).start()?`. Its parameters are `self`, the warmer, and what `skip(…)` names. All other
///   arguments stand in the entry's META, where they are read from, so they are `DeserializeOwned`, and none is `impl …`; calls whose
///   arguments take more than 64 KB there are not warmed. In the `impl` of a trait there is no place for it.
/// - `unshared = |error| …`: of which errors to say that they concern the caller alone, such as "not found": the key does not
///   back off then.
/// - It returns a `Result` whose value is `Serialize + DeserializeOwned` (it is kept as JSON; what JSON would change is an error), and
///   whose error is `From<expcache_client::Error>` and may be sent to other threads. Of a failed production that is
///   `Error::Producer`: see `Error::producer`.
/// - What is in the cache and cannot be read as the value, as another version of the program stored it, is removed, and counts
///   as missing.
#[proc_macro_attribute]
pub fn cached(options: TokenStream, function: TokenStream) -> TokenStream {
    let options = syn::parse_macro_input!(options as Options);
    let function = syn::parse_macro_input!(function as ItemFn);
    expand(&options, &function).unwrap_or_else(|error| error.to_compile_error()).into()
}

struct Options {
    type_name: Expr,
    function: Option<Expr>,
    cache: Option<Expr>,
    unshared: Option<Expr>,
    warm: Option<Ident>,
    has_key: bool,
    skipped: Vec<Ident>,
    others: Vec<(Ident, Expr)>,
}

impl Parse for Options {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let given = Punctuated::<Setting, Token![,]>::parse_terminated(input)?;
        let (mut others, mut skipped) = (Vec::new(), Vec::new());
        for setting in given {
            match setting {
                Setting::Is(name, value) => others.push((name, *value)),
                Setting::Skip(names) => skipped.extend(names),
            }
        }
        let [type_name, function, cache, unshared, warm] =
            ["type", "function", "cache", "unshared", "warm"].map(|name| take(&mut others, name));
        let type_name = type_name?.ok_or_else(|| input.error("say `type = \"…\"`"))?;
        let has_key = others.iter().any(|(name, _)| name == "key");
        let (function, cache, unshared) = (function?, cache?, unshared?);
        let warm = warm?.map(|said| warmed_by(&said)).transpose()?;
        if let (Some(_), Some((meta, _))) = (&warm, others.iter().find(|(name, _)| name == "meta")) {
            let wanted = "with `warm` the function's arguments are the META: leave `meta` out";
            return Err(Error::new(meta.span(), wanted));
        }
        Ok(Self { type_name, function, cache, unshared, warm, has_key, skipped, others })
    }
}

/// How the function is called that gives this one to a warmer.
fn warmed_by(said: &Expr) -> syn::Result<Ident> {
    let name = if let Expr::Path(path) = said { path.path.get_ident() } else { None };
    name.cloned().ok_or_else(|| Error::new_spanned(said, SAY_WARM))
}

const SAY_WARM: &str = "say `warm = …` with the name of the function that is to be made, such as `warm = warm_trips`";

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

/// `name = expression`, or `skip(name, …)`.
enum Setting {
    Is(Ident, Box<Expr>),
    Skip(Punctuated<Ident, Token![,]>),
}

impl Parse for Setting {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let name = Ident::parse_any(input)?;
        if name == "skip" {
            let names;
            syn::parenthesized!(names in input);
            return Punctuated::parse_terminated_with(&names, Ident::parse_any).map(Self::Skip);
        }
        if name == "warm" && !input.peek(Token![=]) {
            return Err(Error::new(name.span(), SAY_WARM));
        }
        input.parse::<Token![=]>().map_err(|error| {
            Error::new(error.span(), format!("say `{name} = …`, or `skip({name})` if it is no part of the key"))
        })?;
        Ok(Self::Is(name, Box::new(input.parse()?)))
    }
}

/// A parameter, or `self`.
struct Argument {
    /// As it is called without the body.
    name: Ident,
    /// As it is called within.
    inner: Ident,
    is_mut: bool,
    /// Its type.
    of: Type,
    /// What it lends, if it does.
    lends: Option<Tokens>,
}

impl Argument {
    fn of(input: &FnArg) -> syn::Result<Self> {
        match input {
            FnArg::Receiver(receiver) => {
                let inner = Ident::new("__expcache_self", Span::mixed_site());
                let name = Ident::new("self", receiver.self_token.span);
                let is_mut = receiver.reference.is_none() && receiver.mutability.is_some();
                Ok(Self { name, inner, is_mut, of: (*receiver.ty).clone(), lends: lent(&receiver.ty)? })
            }
            FnArg::Typed(typed) => match typed.pat.as_ref() {
                Pat::Ident(PatIdent { ident, mutability, by_ref: None, subpat: None, .. }) => Ok(Self {
                    name: ident.clone(),
                    inner: ident.clone(),
                    is_mut: mutability.is_some(),
                    of: (*typed.ty).clone(),
                    lends: lent(&typed.ty)?,
                }),
                pattern => Err(Error::new_spanned(pattern, "a parameter of a cached function needs a name")),
            },
        }
    }

    fn text(&self) -> String {
        self.name.unraw().to_string()
    }

    /// Is it given to the function that `warm` names?
    fn is_given(&self, options: &Options) -> bool {
        self.name == "self" || options.skipped.contains(&self.name)
    }

    fn is(&self, pattern: &Pat) -> bool {
        matches!(pattern, Pat::Ident(PatIdent { ident, .. }) if *ident == self.name)
    }

    /// Where what is given is kept for later.
    fn place(&self) -> Ident {
        Ident::new(&format!("__expcache_kept_{}", self.text()), Span::mixed_site())
    }

    /// A copy for later.
    fn kept(&self) -> Tokens {
        let (name, place) = (&self.name, self.place());
        match self.lends {
            Some(_) => quote_spanned!(name.span()=> let #place = ::expcache_client::__owned(#name);),
            None => quote_spanned!(name.span()=> let #place = ::core::clone::Clone::clone(&#name);),
        }
    }

    /// As the function has it, made of that copy.
    fn again(&self) -> Tokens {
        let (name, place) = (self.within(), self.place());
        match &self.lends {
            Some(lends) => quote_spanned!(name.span()=> #[allow(unused_variables)] let #name: &#lends = &#place;),
            None => {
                quote_spanned!(name.span()=> #[allow(unused_variables)] let #name = ::core::clone::Clone::clone(&#place);)
            }
        }
    }

    /// As the function has it, read from META.
    fn read(&self) -> Tokens {
        let Self { name, of, lends, .. } = self;
        let (text, place, job) = (self.text(), self.place(), Ident::new("job", Span::mixed_site()));
        match lends {
            Some(lends) => quote_spanned!(name.span()=>
                let #place: <#lends as ::std::borrow::ToOwned>::Owned = ::expcache_client::__rebuilt(#job, #text)?;
                #[allow(unused_variables)]
                let #name: &#lends = &#place;
            ),
            None => quote_spanned!(name.span()=>
                #[allow(unused_variables)]
                let #name: #of = ::expcache_client::__rebuilt(#job, #text)?;
            ),
        }
    }

    /// What it is called where `self` is another.
    fn within(&self) -> &Ident {
        if self.name == "self" { &self.inner } else { &self.name }
    }

    /// A copy of one's own, under the inner name.
    fn owned(&self) -> Tokens {
        let Self { name, inner, lends, .. } = self;
        match lends {
            Some(_) => quote_spanned!(name.span()=> let #inner = ::expcache_client::__owned(#name);),
            None => quote_spanned!(name.span()=> let #inner = ::core::clone::Clone::clone(&#name);),
        }
    }

    /// As the body has it, made of that copy.
    fn handed_in(&self) -> Tokens {
        let Self { inner, is_mut, lends, .. } = self;
        let mutability = is_mut.then(|| Token![mut](inner.span()));
        match lends {
            Some(lends) => quote_spanned!(inner.span()=> let #mutability #inner: &#lends = &#inner;),
            None => quote_spanned!(inner.span()=> let #mutability #inner = #inner;),
        }
    }
}

/// What a type lends; a production, which may outlive the call, can be lent nothing within other types.
fn lent(of: &Type) -> syn::Result<Option<Tokens>> {
    let (lends, rest) = match of {
        Type::Reference(reference) if reference.mutability.is_some() => {
            return Err(Error::new_spanned(of, "a cached function cannot change what it is lent"));
        }
        Type::Reference(reference) => (Some(reference.elem.to_token_stream()), reference.elem.to_token_stream()),
        other => (None, other.to_token_stream()),
    };
    let text = rest.to_string().replace("& 'static ", "").replace("&'static ", "").replace("'static", "");
    if text.contains(['&', '\'']) {
        return Err(Error::new_spanned(
            of,
            "the production may outlive the call: take it owned, as in `Option<String>`",
        ));
    }
    Ok(lends)
}

fn expand(options: &Options, function: &ItemFn) -> syn::Result<Tokens> {
    let signature = &function.sig;
    if signature.asyncness.is_none() {
        return Err(Error::new_spanned(signature, "only async functions are cached"));
    }
    let ReturnType::Type(_, result) = &signature.output else {
        return Err(Error::new_spanned(signature, "a cached function returns a `Result`"));
    };
    let mut arguments = signature.inputs.iter().map(Argument::of).collect::<syn::Result<Vec<_>>>()?;
    let cache = cache(options, signature, &mut arguments)?;
    let keyed = keyed(options, &arguments)?;
    let produced = produced(options, function, result, &arguments);
    let request = request(options, function, &arguments, &keyed, false);
    let warmed = match &options.warm {
        Some(name) => warmed(options, function, name, &arguments, &keyed, &produced)?,
        None => Tokens::new(),
    };

    let mut outer = signature.clone();
    outer.inputs.iter_mut().for_each(forget_mut);
    let (attributes, visibility) = (&function.attrs, &function.vis);

    // Names of our own must not be taken for the parameters of the function, nor these for them.
    Ok(quote_spanned! {Span::mixed_site()=>
        #(#attributes)* #visibility #outer {
            let cache: &::expcache_client::Cache = &#cache;
            let request = #request;
            let produced = #produced;
            let kept = ::expcache_client::__cached(cache, &request, produced).await?;
            ::core::result::Result::Ok(kept)
        }
        #warmed
    })
}

/// The producer, with copies of the arguments.
fn produced(options: &Options, function: &ItemFn, result: &Type, arguments: &[Argument]) -> Tokens {
    let owned: Tokens = arguments.iter().map(Argument::owned).collect();
    let handed_in: Tokens = arguments.iter().map(Argument::handed_in).collect();
    let body = without_self(function.block.to_token_stream());
    let unshared = options.unshared.iter();
    quote_spanned! {Span::mixed_site()=> {
        #owned
        move || async move {
            let made: #result = async move {
                #handed_in
                let made: #result = (async move || -> #result #body)().await;
                made
            }.await;
            match made {
                ::core::result::Result::Ok(value) => {
                    ::expcache_client::__export(&value).map_err(::expcache_client::BoxError::from)
                }
                ::core::result::Result::Err(error) => {
                    #(
                        let is_unshared: bool = (#unshared)(&error);
                        if is_unshared {
                            let error = ::expcache_client::Unshared::new(error);
                            return ::core::result::Result::Err(::expcache_client::BoxError::from(error));
                        }
                    )*
                    ::core::result::Result::Err(::expcache_client::BoxError::from(error))
                }
            }
        }
    }}
}

/// The function that gives this one to a warmer: it keeps what is skipped, reads all else from META, and asks as a caller would.
fn warmed(
    options: &Options,
    function: &ItemFn,
    name: &Ident,
    arguments: &[Argument],
    keyed: &[&Argument],
    produced: &Tokens,
) -> syn::Result<Tokens> {
    let (given, read): (Vec<_>, Vec<_>) = arguments.iter().partition(|argument| argument.is_given(options));
    if let Some(unnamed) = read.iter().find(|argument| matches!(argument.of, Type::ImplTrait(_))) {
        let wanted =
            "the type of what is read from META needs a name: give the function a type parameter, or `skip` this one";
        return Err(Error::new_spanned(&unnamed.of, wanted));
    }
    let kept: Tokens = given.iter().map(|argument| argument.kept()).collect();
    let again: Tokens = given.iter().map(|argument| argument.again()).collect();
    let read: Tokens = read.iter().map(|argument| argument.read()).collect();
    let asked = without_self(request(options, function, arguments, keyed, true));
    let produced = without_self(produced.clone());

    let warmer = Ident::new("warmer", Span::mixed_site());
    let (mut signature, mut others) = (function.sig.clone(), Vec::new());
    for input in std::mem::take(&mut signature.inputs) {
        match &input {
            FnArg::Receiver(_) => signature.inputs.push(input),
            FnArg::Typed(typed) if given.iter().any(|argument| argument.is(&typed.pat)) => others.push(input),
            FnArg::Typed(_) => {}
        }
    }
    signature.inputs.push(syn::parse_quote!(#warmer: ::expcache_client::Warmer));
    signature.inputs.extend(others);
    signature.inputs.iter_mut().for_each(forget_mut);
    (signature.asyncness, signature.ident) = (None, name.clone());
    signature.output = syn::parse_quote!(-> ::expcache_client::Warmer);
    let (visibility, type_name) = (&function.vis, &options.type_name);
    let cfgs = function.attrs.iter().filter(|attribute| attribute.path().is_ident("cfg"));
    let doc = format!("Has a warmer make what `{}` is asked for.", function.sig.ident.unraw());

    Ok(quote_spanned! {Span::mixed_site()=>
        #[doc = #doc]
        #(#cfgs)* #visibility #signature {
            #kept
            ::expcache_client::Warmer::handle_request(#warmer, #type_name, move |cache, job| {
                let _ = job;
                #again
                #read
                let request = #asked;
                ::core::result::Result::Ok((request, #produced))
            })
        }
    })
}

/// Where the cache is. If it is the first parameter, that is taken off the arguments.
fn cache(options: &Options, signature: &syn::Signature, arguments: &mut Vec<Argument>) -> syn::Result<Tokens> {
    if let Some(said) = &options.cache {
        return Ok(said.to_token_stream());
    }
    let Some(place) = arguments.iter().position(|argument| argument.name != "self") else {
        let wanted = "the first parameter is the cache, by reference; or say `cache = self.cache`";
        return Err(Error::new_spanned(signature, wanted));
    };
    Ok(arguments.remove(place).name.into_token_stream())
}

/// Those that make the key.
fn keyed<'a>(options: &Options, arguments: &'a [Argument]) -> syn::Result<Vec<&'a Argument>> {
    for skipped in &options.skipped {
        if arguments.iter().all(|argument| argument.name != *skipped) {
            return Err(Error::new(skipped.span(), format!("there is no parameter `{skipped}`")));
        }
    }
    let is_keyed = |argument: &&Argument| !options.has_key && !options.skipped.contains(&argument.name);
    Ok(arguments.iter().filter(is_keyed).collect())
}

fn request(
    options: &Options,
    function: &ItemFn,
    arguments: &[Argument],
    keyed: &[&Argument],
    is_warming: bool,
) -> Tokens {
    let type_name = &options.type_name;
    let settings = options.others.iter().map(|(name, value)| quote_spanned!(name.span()=> .#name(#value)));
    let copies = arguments.iter().filter(|argument| argument.name != "self").map(|Argument { name, .. }| {
        quote_spanned!(name.span()=> #[allow(unused_variables)] let #name = ::core::clone::Clone::clone(&#name);)
    });
    let pairs = |of: &[&Argument], made: &Tokens| -> Vec<Tokens> {
        let pair = |argument: &&Argument| {
            let (text, name) = (argument.text(), &argument.name);
            quote_spanned!(name.span()=> (#text, #made(&#name)?))
        };
        of.iter().map(pair).collect()
    };
    let values = pairs(keyed, &quote_spanned!(Span::mixed_site()=> ::expcache_client::__argument));
    let key = if options.has_key { Tokens::new() } else { identity(options, function, is_warming) };
    let request = quote_spanned! {Span::mixed_site()=>
        ::expcache_client::RequestBuilder::filters(cache.request(#type_name), &filters)
            #key
            #(#settings)*
            .format("json")
    };
    // What is given when it is registered need not stand there.
    let read: Vec<&Argument> = arguments.iter().filter(|argument| !argument.is_given(options)).collect();
    let texts = pairs(&read, &quote_spanned!(Span::mixed_site()=> ::expcache_client::__text));
    let (texts, request) = match &options.warm {
        Some(_) => (
            quote_spanned!(Span::mixed_site()=> let texts = [#(#texts),*] as [(&str, ::std::string::String); _];),
            quote_spanned!(Span::mixed_site()=> ::expcache_client::__described(#request, &texts)),
        ),
        None => (Tokens::new(), request),
    };
    quote_spanned! {Span::mixed_site()=> {
        let filters = ::std::collections::BTreeMap::from([#(#values),*] as [(&str, ::expcache_client::__Value); _]);
        #texts
        #(#copies)*
        #request.build()?
    }}
}

/// A closure is named by the path of what it is in, and by the types for which that was made.
fn identity(options: &Options, function: &ItemFn, is_warming: bool) -> Tokens {
    let result: String = function.sig.output.to_token_stream().to_string().split_whitespace().collect();
    let said = match &options.function {
        Some(said) => quote_spanned!(Span::call_site()=> ::core::option::Option::Some(#said)),
        None => quote_spanned!(Span::call_site()=> ::core::option::Option::None),
    };
    // The variable is that of the crate which is compiled.
    let package = quote_spanned!(Span::call_site()=> ::core::option_env!("CARGO_PKG_NAME").unwrap_or_default());
    match options.warm.as_ref().filter(|_| is_warming) {
        // It is in the other function.
        Some(own) => {
            let names = [own, &function.sig.ident].map(|name| name.unraw().to_string());
            let [own, name] = &names;
            quote_spanned! {Span::mixed_site()=>
                .field("function", ::expcache_client::__identity_of(&|| (), #package, #result, #said, (#own, #name)))
            }
        }
        None => quote_spanned! {Span::mixed_site()=>
            .field("function", ::expcache_client::__identity(&|| (), #package, #result, #said)?)
        },
    }
}

/// Within the production `self` is another.
fn without_self(tokens: Tokens) -> Tokens {
    let renamed = |token: TokenTree| match token {
        TokenTree::Ident(ident) if ident == "self" => {
            TokenTree::Ident(Ident::new("__expcache_self", Span::mixed_site()))
        }
        TokenTree::Group(group) => {
            let mut inner = Group::new(group.delimiter(), without_self(group.stream()));
            inner.set_span(group.span());
            TokenTree::Group(inner)
        }
        other => other,
    };
    tokens.into_iter().map(renamed).collect()
}

/// Of a `mut` parameter it is the body's copy that is changed.
fn forget_mut(input: &mut FnArg) {
    match input {
        FnArg::Receiver(receiver) if receiver.reference.is_none() => receiver.mutability = None,
        FnArg::Typed(typed) => {
            if let Pat::Ident(pattern) = typed.pat.as_mut() {
                pattern.mutability = None;
            }
        }
        FnArg::Receiver(_) => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use quote::quote;

    use super::*;

    /// What the attribute says of a function.
    fn refusal(options: Tokens, function: Tokens) -> String {
        let options = match syn::parse2::<Options>(options) {
            Ok(options) => options,
            Err(error) => return error.to_string(),
        };
        expand(&options, &syn::parse2(function).unwrap())
            .map_or_else(|error| error.to_string(), |made| made.to_string())
    }

    #[test]
    fn a_mistake_is_told_with_what_to_write() {
        let function = quote! { async fn trips(cache: &Cache, month: u8) -> Result<u8, Error> { Ok(month) } };
        for (options, wanted) in [
            (quote!(type = "trips", warm), "warm = warm_trips"),
            (quote!(type = "trips", warm = "warm_trips"), "warm = warm_trips"),
            (quote!(type = "trips", warm = a::b), "warm = warm_trips"),
            (quote!(type = "trips", warm = warm_trips, meta = "{}"), "leave `meta` out"),
            (quote!(warm = warm_trips), "say `type ="),
            (quote!(type = "trips", skip(db), warm = warm_trips), "no parameter `db`"),
        ] {
            let said = refusal(options, function.clone());
            assert!(said.contains(wanted), "{said}");
        }
        let unnamed = quote! { async fn trips(cache: &Cache, month: impl Month) -> Result<u8, Error> { Ok(1) } };
        let said = refusal(quote!(type = "trips", warm = warm_trips), unnamed.clone());
        assert!(said.contains("give the function a type parameter, or `skip` this one"), "{said}");
        let made = refusal(quote!(type = "trips", warm = warm_trips, skip(month)), unnamed);
        assert!(made.contains("fn warm_trips"), "what is given needs no name: {made}");
    }
}
