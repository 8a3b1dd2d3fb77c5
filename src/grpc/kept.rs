//! Rows that an answer was made of, kept until it is sent: their memory is held with them
//! ([`RowBatch::holding`](crate::domain::answer::RowBatch::holding)), so that what waits in the
//! transport for a caller who reads slowly counts as well.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tonic::body::Body;

use crate::domain::call::WriteItem;

/// Answers of fewer bytes are not worth it.
const LEAST: usize = 64 << 10;

/// The rows, on their way with a response.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    _rows: Arc<[Bytes]>,
}

/// A body that lets go of them at its end.
struct KeptBody {
    body: Body,
    _kept: Kept,
}

// === impl Kept ===

impl Kept {
    /// Of a write's answer, where they are many.
    pub(super) fn of(items: &[WriteItem]) -> Option<Self> {
        let rows = || items.iter().map(|item| item.rows.cells());
        let bytes: usize = rows().map(Bytes::len).sum();
        (bytes >= LEAST).then(|| Self { _rows: rows().cloned().collect() })
    }
}

/// The response, whose body keeps what came with it.
pub(super) fn until_sent(mut response: Response<Body>) -> Response<Body> {
    match response.extensions_mut().remove::<Kept>() {
        Some(kept) => response.map(|body| Body::new(KeptBody { body, _kept: kept })),
        None => response,
    }
}

impl HttpBody for KeptBody {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
