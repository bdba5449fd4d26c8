//! Bounds what a guest can have its host keep of requests that are not sent, granted or not.
//! `wasi:http` as wasmtime has it bounds only header fields: a method, a path or an authority may
//! be as long as one call of the host takes, and as many as there may be resources. Stands before
//! some of its functions; never sends anything.

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentNamedList, Lift, Linker, LinkerInstance, Resource};
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::p2::bindings::http::types::{
    Fields, HostOutgoingRequest, HostOutgoingResponse, Method, OutgoingRequest, OutgoingResponse,
    Scheme,
};

use crate::state::State;

/// The interface, by the version that wasmtime has.
const TYPES: &str = "wasi:http/types@0.2.12";
/// Requests and responses that a guest has made and not sent. Each may keep its texts, its fields
/// and 128 KiB of a body.
const UNSENT_MAX: usize = 32;
/// The longest method, and the longest scheme, in bytes.
const WORD_BYTES_MAX: usize = 64;
/// The longest authority, in bytes: a name has 253 at most.
const AUTHORITY_BYTES_MAX: usize = 512;
/// The longest path with its query, in bytes.
const PATH_BYTES_MAX: usize = 32 << 10;

/// `wasi:http` says by this that a part of a request is not accepted.
type Accepted = Result<(), ()>;

/// Puts the bounds before the functions of `wasi:http` that are linked already.
pub(crate) fn bound(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut types = linker.instance(TYPES)?;
    constructors(&mut types)?;
    setters(&mut types)?;
    linker.allow_shadowing(false);
    Ok(())
}

fn constructors(types: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    types.func_wrap(
        "[constructor]outgoing-request",
        |mut store: StoreContextMut<'_, State>, (headers,): (Resource<Fields>,)| {
            check_unsent(store.data_mut())?;
            Ok((HostOutgoingRequest::new(&mut store.data_mut().http(), headers)?,))
        },
    )?;
    types.func_wrap(
        "[constructor]outgoing-response",
        |mut store: StoreContextMut<'_, State>, (headers,): (Resource<Fields>,)| {
            check_unsent(store.data_mut())?;
            Ok((HostOutgoingResponse::new(&mut store.data_mut().http(), headers)?,))
        },
    )
}

/// Traps, for a constructor cannot refuse.
fn check_unsent(state: &mut State) -> wasmtime::Result<()> {
    let view = state.http();
    let is_unsent = |it: &mut (dyn std::any::Any + Send)| {
        it.is::<OutgoingRequest>() || it.is::<OutgoingResponse>()
    };
    if view.table.iter_mut().filter_map(|it| is_unsent(it).then_some(())).count() < UNSENT_MAX {
        return Ok(());
    }
    wasmtime::bail!("more than {UNSENT_MAX} HTTP requests that were made but not sent")
}

fn setters(types: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    setter(types, "method", WORD_BYTES_MAX, |state, request, method: Method| {
        state.http().set_method(request, method)
    })?;
    setter(types, "scheme", WORD_BYTES_MAX, |state, request, scheme: Option<Scheme>| {
        state.http().set_scheme(request, scheme)
    })?;
    setter(
        types,
        "authority",
        AUTHORITY_BYTES_MAX,
        |state, request, authority: Option<String>| state.http().set_authority(request, authority),
    )?;
    setter(types, "path-with-query", PATH_BYTES_MAX, |state, request, path: Option<String>| {
        state.http().set_path_with_query(request, path)
    })
}

/// Has one part of a request refused if it is longer than `bytes_max`, and set otherwise.
fn setter<P: Part>(
    types: &mut LinkerInstance<'_, State>,
    name: &'static str,
    bytes_max: usize,
    set: fn(&mut State, Resource<OutgoingRequest>, P) -> wasmtime::Result<Accepted>,
) -> wasmtime::Result<()>
where
    (Resource<OutgoingRequest>, P): ComponentNamedList + Lift + 'static,
{
    types.func_wrap(
        &format!("[method]outgoing-request.set-{name}"),
        move |mut store: StoreContextMut<'_, State>,
              (request, part): (Resource<OutgoingRequest>, P)| {
            let (state, bytes) = (store.data_mut(), part.bytes());
            if bytes > bytes_max {
                state.warn(&format!(
                    "HTTP request refused: its {name} has {bytes} bytes, and at most {bytes_max} are taken"
                ));
                return Ok((Accepted::Err(()),));
            }
            Ok((set(state, request, part)?,))
        },
    )
}

/// A part of a request, as a guest hands it over.
trait Part {
    /// What the host would keep of it.
    fn bytes(&self) -> usize;
}

impl Part for Option<String> {
    fn bytes(&self) -> usize {
        self.as_ref().map_or(0, String::len)
    }
}

impl Part for Method {
    fn bytes(&self) -> usize {
        if let Self::Other(name) = self { name.len() } else { 0 }
    }
}

impl Part for Option<Scheme> {
    fn bytes(&self) -> usize {
        if let Some(Scheme::Other(name)) = self { name.len() } else { 0 }
    }
}
