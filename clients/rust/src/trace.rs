//! What OpenTelemetry is told of a call, with the feature `opentelemetry`; nothing without it.

use crate::statement::Statement;

/// What a call is, for its span.
#[cfg_attr(not(feature = "opentelemetry"), allow(dead_code))]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Named<'a> {
    /// `query`, `execute`, `batch`, `commit`, `rollback`, `describe` or `info`.
    pub(crate) method: &'static str,
    pub(crate) statement: Option<&'a Statement>,
}

impl Named<'_> {
    pub(crate) fn method(method: &'static str) -> Self {
        Self { method, statement: None }
    }
}

#[cfg(feature = "opentelemetry")]
pub(crate) use traced::Span;
#[cfg(not(feature = "opentelemetry"))]
pub(crate) use untraced::Span;

#[cfg(not(feature = "opentelemetry"))]
mod untraced {
    use super::Named;
    use crate::error::Failure;
    use crate::options::Options;

    /// No span.
    pub(crate) struct Span;

    impl Span {
        pub(crate) fn start(_named: Named<'_>, _options: &Options) -> Self {
            Self
        }

        #[allow(clippy::unused_self)]
        pub(crate) fn traceparent(&self) -> Option<String> {
            None
        }

        #[allow(clippy::unused_self)]
        pub(crate) fn end(self, _failure: Option<&Failure>) {}
    }
}

#[cfg(feature = "opentelemetry")]
mod traced {
    use opentelemetry::global::{self, BoxedSpan};
    use opentelemetry::trace::{Span as _, SpanKind, Status, Tracer as _};
    use opentelemetry::{Context, KeyValue};

    use super::Named;
    use crate::error::Failure;
    use crate::options::{Address, Options};

    const TRACER: &str = "segue-client";

    /// A client span below the ambient one. It ends when it is dropped, as with a call that is.
    pub(crate) struct Span(BoxedSpan);

    impl Span {
        pub(crate) fn start(named: Named<'_>, options: &Options) -> Self {
            let mut attributes = vec![
                KeyValue::new("db.system.name", "postgresql"),
                KeyValue::new("db.operation.name", named.method),
            ];
            if let Some(statement) = named.statement {
                let (text, is_name) = statement.told();
                let name = if is_name { "db.stored_procedure.name" } else { "db.query.text" };
                attributes.push(KeyValue::new(name, text.to_owned()));
            }
            match &options.address {
                Address::Tcp(host, port) => {
                    attributes.push(KeyValue::new("server.address", host.clone()));
                    attributes.push(KeyValue::new("server.port", i64::from(*port)));
                }
                Address::Unix(path) => {
                    attributes.push(KeyValue::new("server.address", path.display().to_string()));
                }
            }
            let tracer = global::tracer(TRACER);
            let builder = tracer
                .span_builder(named.method)
                .with_kind(SpanKind::Client)
                .with_attributes(attributes);
            Self(builder.start_with_context(&tracer, &Context::current()))
        }

        /// W3C's; without a tracer it is that of the ambient span.
        pub(crate) fn traceparent(&self) -> Option<String> {
            let context = self.0.span_context();
            let (trace, span, flags) =
                (context.trace_id(), context.span_id(), context.trace_flags().to_u8());
            context.is_valid().then(|| format!("00-{trace}-{span}-{flags:02x}"))
        }

        pub(crate) fn end(mut self, failure: Option<&Failure>) {
            if let Some(failure) = failure {
                let kind =
                    if failure.sqlstate.is_empty() { &failure.reason } else { &failure.sqlstate };
                self.0.set_attribute(KeyValue::new("error.type", kind.clone()));
                if !failure.sqlstate.is_empty() {
                    self.0.set_attribute(KeyValue::new(
                        "db.response.status_code",
                        failure.sqlstate.clone(),
                    ));
                }
                self.0.set_status(Status::error(failure.message.clone()));
            }
            self.0.end();
        }
    }
}
