//! Which fields a proxy passes on, and which it adds (RFC 9110, section 7.6).

use std::net::IpAddr;

use campanile::Address;
use campanile::http::{Method, OwnedRequest};
use http::header::{CONNECTION, HOST, TE, TRANSFER_ENCODING, UPGRADE, VIA};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, request};

/// What this proxy is called in Via.
const PSEUDONYM: &str = "campanile";

/// Fields about one connection, whether or not Connection names them (RFC 9110, section 7.6.1).
const OF_A_CONNECTION: [HeaderName; 6] = [
    CONNECTION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Removes what is meant for the next hop alone: what Connection names, and what always is.
fn remove_hop_by_hop(fields: &mut HeaderMap) {
    let named: Vec<HeaderName> = fields
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        // Nobody can have the fields removed that make the message what it is.
        .filter(|name| name != HOST && name.as_str() != "content-length")
        .collect();
    for name in named.iter().chain(&OF_A_CONNECTION) {
        fields.remove(name);
    }
}

/// Adds to a field that is a list.
fn append(fields: &mut HeaderMap, name: &HeaderName, item: &str) {
    let mut list: Vec<u8> = fields.get_all(name).iter().fold(Vec::new(), |mut list, value| {
        list.extend_from_slice(value.as_bytes());
        list.extend_from_slice(b", ");
        list
    });
    list.extend_from_slice(item.as_bytes());
    if let Ok(value) = HeaderValue::from_bytes(&list) {
        fields.insert(name.clone(), value);
    }
}

fn via(version: http::Version) -> String {
    let version = if version == http::Version::HTTP_10 { "1.0" } else { "1.1" };
    format!("{version} {PSEUDONYM}")
}

/// The head of the request as it goes on: without its body, from the client at `peer`.
pub(crate) fn of_request(
    request: &OwnedRequest,
    peer: Option<&Address>,
    default_host: &str,
) -> Result<request::Parts, campanile::http::Error> {
    let bad = |what| campanile::http::Error::new(400, what);
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.method = http::Method::from_bytes(request.method().as_str().as_bytes())?;
    let target = request.target();
    // The last proxy asks for the server as a whole (RFC 9112, section 3.2.4).
    let behind_scheme = target.as_str().split_once("://").map(|(_, behind)| behind);
    let is_whole =
        request.method() == Method::Options && behind_scheme.is_some_and(|b| target.authority() == Some(b));
    let target = if is_whole { "*" } else { target.as_str() };
    parts.uri = target.parse().map_err(|_| bad("the target is not a valid URI"))?;
    let fields = &mut parts.headers;
    for field in request.fields() {
        fields.append(HeaderName::try_from(field.name)?, HeaderValue::from_bytes(field.value)?);
    }
    remove_hop_by_hop(fields);
    // The host of an absolute target counts for more than the field (RFC 9112, section 3.2.2).
    let host = request.host().unwrap_or(default_host).to_owned();
    fields.insert(HOST, HeaderValue::try_from(&host)?);
    fields.insert("x-forwarded-host", HeaderValue::try_from(host)?);
    fields.insert("x-forwarded-proto", HeaderValue::from_static("http"));
    if let Some(address) = peer.and_then(Address::tcp).map(|address| address.ip()) {
        append(fields, &HeaderName::from_static("x-forwarded-for"), &address.to_string());
        let node = match address {
            IpAddr::V4(address) => format!("for={address};proto=http"),
            IpAddr::V6(address) => format!("for=\"[{address}]\";proto=http"),
        };
        append(fields, &http::header::FORWARDED, &node);
    }
    append(fields, &VIA, &via(campanile::http::convert::version(request.version())));
    Ok(parts)
}

/// An answer as it goes back.
pub(crate) fn of_answer<B>(answer: &mut http::Response<B>) {
    let version = answer.version();
    let fields = answer.headers_mut();
    remove_hop_by_hop(fields);
    append(fields, &VIA, &via(version));
    if !(200..600).contains(&answer.status().as_u16()) {
        *answer.status_mut() = StatusCode::BAD_GATEWAY;
    }
}

/// Takes one off Max-Forwards, which TRACE and OPTIONS may have; false if it was zero, and the request ends here
/// (RFC 9110, section 7.6.2).
pub(crate) fn count_down(fields: &mut HeaderMap) -> bool {
    let left = fields.get("max-forwards").and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
    match left {
        None => true,
        Some(0) => false,
        Some(left) => {
            fields.insert("max-forwards", HeaderValue::from(left - 1));
            true
        }
    }
}
