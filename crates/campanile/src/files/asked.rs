//! What was asked for: the part of a request that is needed after its head is gone.

use campanile_protocol::http1::Method;

use crate::http::Request;

use super::coding::Accepted;
use super::path::{RelativePath, with_slash};

/// Kept while a file is opened; a file that is in memory is answered without it.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) is_head: bool,
    /// Beneath the root; see [`RelativePath`].
    pub(super) path: Vec<u8>,
    pub(super) is_directory: bool,
    pub(super) accepted: Accepted,
    /// Path and query as they were sent, with whatever the path is mounted at.
    target: String,
    query: Option<String>,
    /// The fields that decide which part of a file is sent, if any. Mostly there are none.
    fields: Vec<(&'static str, Vec<u8>)>,
}

const DECISIVE: [&str; 6] =
    ["If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "Range", "If-Range"];

impl Asked {
    pub(super) fn of(request: &Request<'_>, path: &RelativePath<'_>, accepted: Accepted) -> Asked {
        let decisive = |name: &str| DECISIVE.into_iter().find(|known| known.eq_ignore_ascii_case(name));
        let fields = request.fields();
        Asked {
            is_head: request.method() == Method::Head,
            path: path.as_bytes().to_vec(),
            is_directory: path.is_directory(),
            accepted,
            target: request.path().to_owned(),
            query: request.query().map(str::to_owned),
            fields: fields.filter_map(|field| Some((decisive(field.name)?, field.value.to_vec()))).collect(),
        }
    }

    pub(super) fn method(&self) -> Method<'static> {
        if self.is_head { Method::Head } else { Method::Get }
    }

    pub(super) fn values(&self, name: &'static str) -> impl Iterator<Item = &[u8]> + Clone {
        self.fields.iter().filter(move |(known, _)| *known == name).map(|(_, value)| &value[..])
    }

    /// Where the directory is that was asked for without a slash at its end.
    pub(super) fn with_slash(&self) -> String {
        with_slash(&self.target, self.query.as_deref())
    }
}
