//! Log lines, with the trace and the span that they belong to.

use std::fmt::Write as _;
use std::io::Write;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use opentelemetry::trace::TraceContextExt;
use serde_json::{Map, Value};
use tracing::dispatcher::WeakDispatch;
use tracing::field::{Field, Visit};
use tracing::{Dispatch, Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// Where the lines go, and how they look.
pub(super) struct LogLayer {
    json: bool,
    out: Mutex<Box<dyn Write + Send>>,
    /// Known once the layer has been put in place. Asking for the current dispatch from within
    /// an event would answer none.
    dispatch: OnceLock<WeakDispatch>,
}

// === impl LogLayer ===

impl LogLayer {
    pub(super) fn new(json: bool, out: Box<dyn Write + Send>) -> Self {
        Self { json, out: Mutex::new(out), dispatch: OnceLock::new() }
    }

    fn ids<S>(&self, event: &Event<'_>, context: &Context<'_, S>) -> Option<(String, String)>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let span = context.event_span(event)?;
        let dispatch = self.dispatch.get()?.upgrade()?;
        let traced = tracing_opentelemetry::get_otel_context(&span.id(), &dispatch)?;
        let ids = traced.span().span_context().clone();
        ids.is_valid().then(|| (ids.trace_id().to_string(), ids.span_id().to_string()))
    }
}

impl<S> Layer<S> for LogLayer
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn on_register_dispatch(&self, dispatch: &Dispatch) {
        // A second dispatch with the same layer does not happen; the first would be right.
        let _ = self.dispatch.set(dispatch.downgrade());
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let ids = self.ids(event, &context);
        let now = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let (level, target) = (event.metadata().level().as_str(), event.metadata().target());
        let mut line = if self.json {
            json(&now, level, target, fields, ids)
        } else {
            text(&now, level, target, &fields, ids)
        };
        line.push('\n');
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody is left to be told that the log cannot be written.
        let _ = out.write_all(line.as_bytes());
    }
}

type Ids = Option<(String, String)>;

fn json(now: &str, level: &str, target: &str, fields: Fields, ids: Ids) -> String {
    let mut line = Map::new();
    line.insert("timestamp".to_owned(), now.into());
    line.insert("level".to_owned(), level.into());
    line.insert("target".to_owned(), target.into());
    line.insert("message".to_owned(), fields.message.into());
    if let Some((trace_id, span_id)) = ids {
        line.insert("trace_id".to_owned(), trace_id.into());
        line.insert("span_id".to_owned(), span_id.into());
    }
    for (name, value) in fields.others {
        // A field of that name must not take the place of the line's own.
        let taken = line.contains_key(&name);
        line.insert(if taken { format!("field.{name}") } else { name }, value);
    }
    Value::Object(line).to_string()
}

fn text(now: &str, level: &str, target: &str, fields: &Fields, ids: Ids) -> String {
    let mut line = format!("{now} {level:5} {target}: {}", fields.message);
    for (name, value) in &fields.others {
        // Writing to a string does not fail.
        let _ = write!(line, " {name}={value}");
    }
    if let Some((trace_id, span_id)) = ids {
        let _ = write!(line, " trace_id={trace_id} span_id={span_id}");
    }
    line.replace('\n', "\\n")
}

#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(String, Value)>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            (name, value) => self.others.push((name.to_owned(), value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.add(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }
}
