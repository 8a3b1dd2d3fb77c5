//! The optional bearer token of the operators' listener.

use std::fmt;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

const SCHEME: &str = "Bearer ";
const GRPC: &str = "application/grpc";
const WAY_OUT: &str = "send `authorization: Bearer …` with the token of listen.admin_token_file";

/// A token that callers must show. It never prints.
#[derive(Clone)]
pub struct Token {
    digest: Arc<[u8; 32]>,
}

// === impl Token ===

impl Token {
    /// Asks for this token.
    pub fn new(token: &str) -> Self {
        Self { digest: Arc::new(digest(token)) }
    }

    /// Digests are compared, not texts: how long that takes tells nothing of the token.
    fn admits(&self, shown: &str) -> bool {
        digest(shown) == *self.digest
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Lets a request through that shows the token.
pub(super) async fn check(State(token): State<Token>, request: Request, next: Next) -> Response {
    let shown = request.headers().get(header::AUTHORIZATION);
    let shown = shown.and_then(|value| value.to_str().ok()?.strip_prefix(SCHEME));
    if shown.is_some_and(|shown| token.admits(shown)) {
        return next.run(request).await;
    }
    let content_type = request.headers().get(header::CONTENT_TYPE);
    if content_type.is_some_and(|value| value.as_bytes().starts_with(GRPC.as_bytes())) {
        return tonic::Status::unauthenticated(WAY_OUT).into_http::<Body>();
    }
    (StatusCode::UNAUTHORIZED, WAY_OUT).into_response()
}
